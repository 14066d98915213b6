"""Images a second of generators at their default options, beside the bare forward pass of their networks, on this machine.

    python scripts/benchmark_sampling.py
    python scripts/benchmark_sampling.py zoo:mnist-best RUN --seconds 3

A generator's network is called in one batch, as often as its options ask for: once for GANs and VAEs, for flow matching once a
step or twice, and on twice the batch under guidance. What `sample` needs beside that are noise, conditions and the path's sums.
Both take turns; the table has medians, and of the ratio the least and the largest, too.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from spread import spread

from condgen.errors import CondgenError
from condgen.generators.base import BLOCK, Generator
from condgen.generators.flow_matching import FlowMatchingGenerator
from condgen.randomness import generator as keyed_generator
from condgen.run.checkpoint import load
from condgen.run.exported import shipped

TURNS = 5
LOOKS = {"euler": 1, "midpoint": 2, "heun": 2}


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="runs, checkpoints or zoo:NAME; without any, all of the zoo")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    choices = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, blocks of {BLOCK}\n")
    print("| model | family | options | images/s | bare forward, images/s | ratio |\n|---|---|---|--:|--:|--:|")
    for source in choices.models or [f"zoo:{name}" for name in shipped()]:
        generator = load(source)
        options = ", ".join(f"{name} {value}" for name, value in generator.sampling.items() if value is not None)
        try:
            encoded = generator.requested(None, BLOCK)[:BLOCK]
        except CondgenError as error:
            print(f"| {source} | {generator.family} | {error} | | | |")
            continue
        whole, bare = drawing(generator, encoded), forward(generator, encoded)
        whole(), bare()
        turns = [(rate(whole, choices.seconds), rate(bare, choices.seconds)) for _ in range(TURNS)]
        ratios = [ours / theirs for ours, theirs in turns]
        ours, theirs = (median(column) for column in zip(*turns, strict=True))
        print(f"| {source} | {generator.family} | {options} | {ours:,.0f} | {theirs:,.0f} | {spread(ratios)} |", flush=True)


def drawing(generator: Generator, encoded: torch.Tensor) -> Callable[[], object]:
    """Return what draws a block of samples as `condgen sample` does."""
    return lambda: generator.sample_block(0, encoded, 0)


def forward(generator: Generator, encoded: torch.Tensor) -> Callable[[], object]:
    """Return what makes the looks at the network that a block needs, on inputs that are there already."""
    z = generator.noise(len(encoded), keyed_generator(0, "bare"))
    if not isinstance(generator, FlowMatchingGenerator):
        return torch.inference_mode()(lambda: generator.decode(z, encoded))
    guided = 2 if generator.sampling.get("guidance", 1) != 1 else 1
    solver = str(generator.sampling["solver"])
    looks = int(generator.sampling["steps"]) * LOOKS[solver] - (solver == "heun")
    x, condition = z.repeat(guided, *[1] * (z.dim() - 1)), encoded.repeat(guided, *[1] * (encoded.dim() - 1))
    t, kept = torch.full((len(x),), 0.5), torch.zeros(len(x), dtype=torch.bool)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(looks):
            generator.network(x, t, condition, kept)

    return run


def rate(work: Callable[[], object], seconds: float) -> float:
    """Return the images a second of blocks of `BLOCK`."""
    started, blocks = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not blocks:
        work()
        blocks += 1
    return BLOCK * blocks / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
