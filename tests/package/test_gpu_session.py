"""The session of a GPU, shrunk and on the CPU: whether its parts run, go on, and end in a table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/gpu_session.py"


@pytest.mark.slow
def test_a_session_goes_on_where_it_ended_and_tells_what_it_did_not_reach(tmp_path: Path) -> None:
    first = {
        "device": {"name": "a machine", "torch": "2", "memory": None, "rates": {"float32": 1e12, "bfloat16": 2e12}},
        "speed/cvae_mlp (c)/eager": {"error": "It ended the process, or took too long.", "tries": 2},
    }
    (tmp_path / "session.json").write_text(json.dumps(first))
    models = ("--models", "cgan_mlp (a)", "cvae_mlp (c)", "--how", "eager", "--only", "device", "speed", "split/cgan")
    command = [sys.executable, SCRIPT, tmp_path, "--device", "cpu", "--small", *models]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "session.json").read_text())
    assert found["device"] == first["device"]  # not measured again
    speed, split = found["speed/cgan_mlp (a)/eager"], found["split/cgan_mlp (a)"]
    flop = found["FLOP/cgan_mlp (a)"]["FLOP an image"]
    assert speed["share"] == pytest.approx(speed["images/s"] * flop / 1e12)
    assert all(split[name] > 0 for name in ("data", "forward", "backward", "optimizer"))
    parts = split["forward"] + split["backward"] + split["optimizer"] + split["framework"]
    assert parts == pytest.approx(split["step"]) and split["framework"] > 0
    table = (tmp_path / "session.md").read_text()
    assert "| cgan_mlp (a) | 64 |" in table and "Not found: speed/cvae_mlp (c)/eager: It ended the process" in table
    assert not (tmp_path / "scratch").exists()
