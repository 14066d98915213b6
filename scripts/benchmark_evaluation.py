"""Time condgen's suite of metrics against torch-fidelity's own pipeline, with the same network as extractor.

    uv run python scripts/benchmark_evaluation.py --archive PATH/cifar10/train.zip

10,000 training images of CIFAR-10 play the generated ones and are compared with its 10,000 test images, in rounds that take
turns:
  condgen    `Evaluator`: FID, IS, KID, precision, recall, density, coverage, label accuracy, intra-class FID, diversity, and
             (apart) the nearest-neighbour check against the 50,000 - 5,000 training images and the floors;
  fidelity   `torch_fidelity.calculate_metrics` with FID, IS, KID, precision and recall.
Cold: nothing is known of the real images. Warm: their features, and what follows from them, are cached on disk. Printed are
seconds (median over rounds), condgen's over torch-fidelity's, and the share of extraction in condgen's.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_fidelity
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils.data import Dataset

from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.metrics.catalogue import chosen
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.extractors import Extractor, Shipped

COUNT = 10_000
SHARED = ["fid", "is", "kid", "precision", "recall"]


class Images(Dataset[Tensor]):
    """uint8 images (N, C, H, W), one at a time, as torch-fidelity wants them."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


class Adapter(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
    """condgen's extractor as one of torch-fidelity's."""

    extractor: Extractor

    def __init__(self, name: str, features_list: list[str], **options: Any):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features that were asked for."""
        with torch.inference_mode():
            found = dict(zip(("features", "logits"), Adapter.extractor.block(images), strict=True))
        return tuple(found[name] for name in self.features_list)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result of ``work``."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def condgen(data: Any, extractor: Extractor, images: Tensor, labels: Tensor, metrics: list[str]) -> dict[str, float]:
    """Measure as ``condgen evaluate`` does, without floors; return seconds of extraction and of all, and the figures."""
    start = time.perf_counter()
    evaluator = Evaluator(extractor, data, "test")
    real_seconds, _ = timed(lambda: evaluator.reference)
    own_seconds, _ = timed(lambda: evaluator.extract(images, labels))
    start += own_seconds  # extracted once more for the metrics, where it cannot be told from what they do
    generated = evaluator.given(images, labels, metrics=metrics)
    record = evaluator.record(generated, with_floors=False, weights="given", source="benchmark", step=None)
    return {"extraction": real_seconds + own_seconds, "all": time.perf_counter() - start, **record.figures}


def fidelity(images: Tensor, real: Tensor, cache: Path) -> dict[str, float]:
    """Measure with torch-fidelity; return seconds of extraction (of both sets, unless cached) and of all, and the figures."""
    spent = 0.0
    forward = Adapter.forward

    def clocked(self: Adapter, batch: Tensor) -> tuple[Tensor, ...]:
        nonlocal spent
        seconds, result = timed(lambda: forward(self, batch))
        spent += seconds
        return result  # type: ignore[no-any-return]

    Adapter.forward = clocked  # type: ignore[method-assign]
    seconds, figures = timed(
        lambda: torch_fidelity.calculate_metrics(
            input1=Images(images),
            input2=Images(real),
            input2_cache_name="real",
            cache_root=str(cache),
            feature_extractor="condgen",
            batch_size=250,
            cuda=False,
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            verbose=False,
            save_cpu_ram=True,
        )
    )
    Adapter.forward = forward  # type: ignore[method-assign]
    return {"extraction": spent, "all": seconds, **figures}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", default="../shared/data/cifar10/train.zip", help="CIFAR-10 in EDM's layout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not Path(options.archive).exists():
        sys.exit(f"CIFAR-10 is not here: {options.archive}; name it with --archive.")
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        config = plain(compose("evaluate", ["data=cifar10", f"data.source.archive={options.archive}"]))
    data = build("data", config["data"])
    rows = data.train.rows[:COUNT]
    images, labels = data.train.table.images[rows], data.train.table.labels[rows]
    extractor = Adapter.extractor = Shipped("cifar10-resnet")
    torch_fidelity.register_feature_extractor("condgen", Adapter)
    suite = [name for name in chosen("all") if name != "nearest"]
    times: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for state in ("cold", "warm"):
                os.environ["CONDGEN_CACHE"] = folder + "/suite"
                row = condgen(data, extractor, images, labels, suite)
                times.setdefault((state, "condgen, suite"), []).append(row)
                os.environ["CONDGEN_CACHE"] = folder + "/shared"
                row = condgen(data, extractor, images, labels, SHARED)
                times.setdefault((state, "condgen, same five"), []).append(row)
                row = fidelity(images, data.test.images, Path(folder))
                times.setdefault((state, "torch-fidelity"), []).append(row)
                print("round", {key: round(found[-1]["all"], 1) for key, found in times.items()}, file=sys.stderr, flush=True)
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, {COUNT:,} images against {len(data.test):,}")
    print(f"{'':28}{'extraction':>12}{'rest':>9}{'all':>9}{'extraction':>12}")
    for (state, name), measured in times.items():
        extraction, whole = (statistics.median(row[key] for row in measured) for key in ("extraction", "all"))
        print(f"{state + ', ' + name:28}{extraction:11.1f}s{whole - extraction:8.1f}s{whole:8.1f}s{extraction / whole:11.0%}")
    for state in ("cold", "warm"):
        pairs = list(zip(times[state, "condgen, suite"], times[state, "torch-fidelity"], strict=True))
        for key in ("extraction", "all"):
            ratios = [a[key] / b[key] for a, b in pairs]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            print(f"{state}: condgen's suite / torch-fidelity, {key}: {spread}")
    ours, theirs = times["warm", "condgen, suite"][0], times["warm", "torch-fidelity"][0]
    print("figures:", {name: round(ours[name], 5) for name in SHARED}, {k: round(v, 5) for k, v in theirs.items() if "_" in k})


if __name__ == "__main__":
    main()
