"""Measure how far ONNX graphs of the generators that ship are from torch, and how fast onnxruntime is beside it.

    OMP_NUM_THREADS=1 python scripts/measure_onnx.py
    OMP_NUM_THREADS=2 python scripts/measure_onnx.py --only mnist-best --seconds 5

It prints a table. Differences are those of pixels in [-1, 1], the largest of ``--samples`` from noise and random conditions.
Speeds are images for a second of the processor's time at the best batch, both measured by turns; on a quiet machine with one
thread that is the time of the clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from condgen.export import export
from condgen.exporting.graph import Inputs, example
from condgen.generators.base import Generator
from condgen.run.checkpoint import load
from condgen.run.exported import shipped

BATCHES = (1, 8, 32, 128)
ROUNDS = 3
"""Turns of which the fastest counts."""
Run = Callable[[Inputs], torch.Tensor]


def runtime(name: str) -> Run:
    """Export a generator that ships, and return what runs it in onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(Path(f"zoo:{name}"), file, "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> torch.Tensor:
        found = session.run(None, {key: value.numpy() for key, value in inputs.items()})
        return torch.from_numpy(found[0])

    return run


def eager(generator: Generator) -> Run:
    """Return what runs a generator in torch."""

    @torch.inference_mode()
    def run(inputs: Inputs) -> torch.Tensor:
        nothing = torch.empty(len(next(iter(inputs.values()))), 0)
        return generator.render(inputs.get("latents", nothing), inputs.get("condition", nothing))

    return run


def rate(run: Run, inputs: Inputs, seconds: float) -> float:
    """Return images for a second of the processor's time."""
    run(inputs)
    started, used, rounds = time.monotonic(), time.process_time(), 0
    while rounds == 0 or time.monotonic() - started < seconds:
        run(inputs)
        rounds += 1
    return rounds * len(next(iter(inputs.values()))) / (time.process_time() - used)


def fastest(runs: list[Run], generator: Generator, seconds: float) -> list[tuple[float, int]]:
    """Return the images a second of each, and the batch at which they are; turns go round, so that all find like conditions."""
    found: list[dict[int, float]] = [{} for _ in runs]
    for _ in range(ROUNDS):
        for batch in BATCHES:
            inputs = example(generator, batch, 0)
            for run, rates in zip(runs, found, strict=True):
                rates[batch] = max(rates.get(batch, 0.0), rate(run, inputs, seconds / len(BATCHES) / ROUNDS))
    return [max((value, batch) for batch, value in rates.items()) for rates in found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = shipped()
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--samples", type=int, default=250, help="that are compared")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of speed; 0: none")
    given = parser.parse_args()
    print("| model | largest difference | torch, images/s | onnxruntime, images/s | ratio |\n|---|---|---|---|---|")
    for name in given.only:
        generator = load(f"zoo:{name}")
        runs = [eager(generator), runtime(name)]
        inputs = example(generator, given.samples, 0)
        gap = (runs[0](inputs) - runs[1](inputs)).abs().max().item()
        cells = [f"`{name}`", f"{gap:.1e}"]
        if given.seconds:
            (torch_rate, torch_batch), (onnx_rate, onnx_batch) = fastest(runs, generator, given.seconds)
            cells += [
                f"{torch_rate:,.0f} at {torch_batch}",
                f"{onnx_rate:,.0f} at {onnx_batch}",
                f"{onnx_rate / torch_rate:.2f}",
            ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
