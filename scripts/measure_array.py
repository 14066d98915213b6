"""Submit a sweep of many tiny trainings to Slurm, and measure what each job costs beside its training. No job may be lost.

    uv run python scripts/measure_array.py --work /tmp/array --jobs 100

Slurm's clock says when a job started and ended, in whole seconds, provenance.json when its run began and how long it trained.
What lies before is Python, torch, Lightning and the configuration; what lies between two jobs on one processor is Slurm.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

SHORT = ("experiment=none", "model=cvae_mlp", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=50")
SHORT = (*SHORT, "trainer.limit_val_batches=1", "data.batch_size=16", "callbacks.evaluation=null", "run.threads=1")


def finished(since: float) -> dict[int, tuple[float, float]]:
    """Return when jobs ``since`` then that Slurm still remembers started and ended, in seconds, by number in the array."""
    answer = subprocess.run(["scontrol", "--oneliner", "show", "jobs"], capture_output=True, text=True)
    found = {}
    for line in answer.stdout.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        if fields.get("ArrayTaskId", "").isdigit() and fields["JobState"] == "COMPLETED":
            start, end = (datetime.fromisoformat(fields[key]).timestamp() for key in ("StartTime", "EndTime"))
            if start >= int(since):
                found[int(fields["ArrayTaskId"])] = start, end
    return found


def told(name: str, values: list[float]) -> str:
    """Return a line of the table."""
    return f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |"


def main() -> None:
    """Submit, wait and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    sweep = options.work / f"sweep-{time.time_ns()}"
    launcher = ["hydra/launcher=slurm", "hydra.launcher.time=30", f"hydra.launcher.parallel={options.parallel}"]
    words = ["train", "--multirun", *launcher, *SHORT, f"seed=range({options.jobs})", f"hydra.sweep.dir={sweep}"]
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.time()
    times: dict[int, tuple[float, float]] = {}
    with (options.work / "log").open("w") as log:
        command = [sys.executable, "-m", "condgen", *words, *options.overrides]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        while process.poll() is None:
            time.sleep(2)
            times |= finished(began)
    times |= finished(began)
    whole = time.time() - began
    runs = [json.loads((sweep / str(k) / "provenance.json").read_text())["sessions"] for k in range(options.jobs)]
    lost = [k for k, sessions in enumerate(runs) if [one["state"] for one in sessions] != ["done"]]
    print(f"{options.jobs} jobs, {options.parallel} at a time, in {whole:.0f} s, status {process.returncode}; not done: {lost}")
    starts = sorted(start for start, _ in times.values())
    last = max(end for _, end in times.values())
    print(f"first start after {starts[0] - began:.1f} s; last end {began + whole - last:.1f} s before the command's\n")
    known = sorted(times)
    lengths = [times[k][1] - times[k][0] for k in known]
    before = [datetime.fromisoformat(runs[k][0]["began"]).timestamp() - times[k][0] for k in known]
    trained = [runs[k][0]["wall_seconds"] for k in known]
    print(f"| seconds of {len(known)} jobs | median | least | most |\n| --- | --- | --- | --- |")
    print(told("whole job", lengths))
    print(told("before its run begins: Python, imports, configuration, data", before))
    print(told("run: training, its files, the report", trained))
    print(told("after it", [a - b - c for a, b, c in zip(lengths, before, trained, strict=True)]))
    idle = (last - starts[0]) * options.parallel - sum(lengths)
    print(f"\nbetween two jobs on one processor: {idle / len(known):.2f} s")


if __name__ == "__main__":
    main()
