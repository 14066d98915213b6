"""Memory and bytes of an evaluation by several processes: metrics that add up, against gathering everything everywhere.

    uv run python scripts/measure_gathering.py [--processes 4] [--samples 50000] [--features 2048]

Features are random numbers in the place of what an extractor says of samples of ten classes; the reference has 10,000 rows, as
CIFAR-10's test part. Each process takes its share in, block by block, and what the processes have is then put together, by
gloo on one machine. Told of the first process: the most memory that it came to need beyond that of the imports (with what it
reads of the reference), the bytes that it put into collectives, and what it received by them (of a gather all others' shares,
of a sum by a ring 2 (n - 1) / n of its size). Figures are not computed.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from condgen.metrics.features import Features
from condgen.metrics.suite import Known, Suite, by_class, gaussian

CLASSES, LOGITS, REFERENCE, BLOCK = 10, 1008, 10_000, 250
SUMS = ["fid", "is", "label_accuracy"]
CONTENDERS = {"gather": None, "sums": SUMS, "sums within classes": [*SUMS, "intra_fid"], "all": [*SUMS, "intra_fid", "kid"]}


def block(index: int, count: int, width: int) -> Features:
    """Return what an extractor would say of one block."""
    stream = torch.Generator().manual_seed(index)
    labels = torch.arange(count) % CLASSES
    return Features(torch.rand(count, width, generator=stream), torch.rand(count, LOGITS, generator=stream), labels, labels)


def megabytes() -> float:
    """Return the most memory that this process has needed, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Counter:
    """Counts the bytes of this process's collectives."""

    def __init__(self, world: int):
        self.put = self.received = 0.0
        self._count("all_reduce", 0, 2 * (world - 1) / world)
        self._count("all_gather", 1, world - 1)
        self._count("all_gather_single", 1, world - 1)  # all_gather_object's

    def _count(self, name: str, place: int, share: float) -> None:
        """Count what the collective ``name`` is given at a ``place`` of its arguments, and the share of it that comes back."""
        collective = getattr(dist.distributed_c10d, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.put += arguments[place].nbytes
            self.received += share * arguments[place].nbytes
            return collective(*arguments, **options)

        for module in (dist, dist.distributed_c10d):
            setattr(module, name, wrapped)


def process(rank: int, options: argparse.Namespace, folder: Path, name: str, known: Known) -> None:
    """Take a share in, put it together with the others', and write down what that took."""
    torch.set_num_threads(1)
    world, count = options.processes, options.samples
    dist.init_process_group("gloo", init_method=f"file://{folder}/{name}", rank=rank, world_size=world)
    blocks, start = range(rank, count // BLOCK, world), megabytes()
    counter = Counter(world)
    if CONTENDERS[name] is None:
        shares: list[Any] = [None] * world
        own = {i: block(i, BLOCK, options.features) for i in blocks}
        dist.all_gather_object(shares, own)
        seen = [shares[i % world][i] for i in range(count // BLOCK)]
        whole = [torch.cat(column) for column in zip(*((part.features, part.logits) for part in seen), strict=True)]
        assert len(whole[0]) == count
    else:
        suite = Suite(CONTENDERS[name], block(0, 1, options.features), known, count)
        for i in blocks:
            suite.update(block(i, BLOCK, options.features), torch.arange(i * BLOCK, (i + 1) * BLOCK))
        for part in suite.parts.values():
            part.sync(part.dist_sync_fn)
    if rank == 0:
        torch.save([megabytes() - start, counter.put / 1e6, counter.received / 1e6], folder / f"{name}.found")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Measure each contender in fresh processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2048)
    options = parser.parse_args()
    print(f"{options.processes} processes, {options.samples:,} x {options.features:,} features, MB of the first process")
    print(f"{'':22}{'memory':>10}{'put in':>10}{'received':>10}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = block(-1, REFERENCE, options.features)
        assert real.labels is not None
        classes, empty = by_class(real.features, real.labels), torch.empty(0)
        known = Known(gaussian(real.features), classes, empty, empty, empty)
        del real
        for contender in CONTENDERS:
            arguments = (options, folder, contender, known)
            mp.start_processes(process, arguments, nprocs=options.processes, start_method="fork")
            found = torch.load(folder / f"{contender}.found")
            print(f"{contender:22}" + "".join(f"{value:>10.0f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
