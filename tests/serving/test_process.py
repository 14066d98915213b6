"""``condgen serve`` as a process: how it starts, what it imports, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from package.test_imports import needless

ASK = """
import json, sys
from condgen.cli import main
try:
    main()
except SystemExit as end:
    status = end.code
print(json.dumps(sorted(sys.modules)))
sys.exit(status)
"""


@pytest.mark.slow
def test_at_sigterm_it_finishes_what_runs_and_ends_with_0(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, "serve", str(folder / "points.ckpt"), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().split()[0]
        found: list[int] = []

        def ask() -> None:
            question = {"model": "points", "count": 64, "sampling": {"steps": 200, "solver": "heun"}, "format": "npz"}
            request = urllib.request.Request(
                f"{address}/v1/samples", json.dumps(question).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                found.append(len(answer.read()))

        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive() and waiting(address) == 0:
            time.sleep(0.02)
        assert asking.is_alive(), "the request was answered before there was anything to finish"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError, match=r"503|refused"):
            while process.poll() is None:
                urllib.request.urlopen(f"{address}/readyz", timeout=60)
        asking.join()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "" and found and found[0] > 1000
    assert needless(set(json.loads(out.splitlines()[-1]))) == []


def metrics(address: str) -> str:
    """Return the page of metrics."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def waiting(address: str) -> float:
    """Return the number of requests that wait or are drawn."""
    return float(next(line for line in metrics(address).splitlines() if line.startswith("condgen_queue_length")).split()[1])


def test_a_port_in_use_and_an_unknown_model_are_told_in_a_sentence(run_condgen, folder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run_condgen("serve", folder / "points.ckpt", "--port", taken.getsockname()[1])
    assert "choose another --port" in result.sentence()
    assert "no.ckpt" in run_condgen("serve", "no.ckpt", "--port", 0).sentence()
    two = run_condgen("serve", folder / "points.ckpt", folder / "points.ckpt", "--port", 0)
    assert "NAME=" in two.sentence()
