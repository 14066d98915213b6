"""Ask for digits that training never saw, by their strokes: each of the ten is left out of a training of its own.

    uv run python scripts/measure_unseen.py outputs/unseen trainer.max_epochs=2

For each left-out digit a run of ``experiment=mnist_strokes`` is trained (one that is there is taken), 500 samples of that digit
are drawn and read by the extractor that the run was measured with. Prints a table: how many are read as it, as what else, and
how well the nine trained digits are. A one-hot condition has no name for a digit that it never saw; chance is 0.1.
"""

import sys
from pathlib import Path

import torch

import condgen
from condgen.config.build import build
from condgen.config.reading import read_plain
from condgen.generators.base import Generator
from condgen.run.status import read_status
from condgen.spaces import to_uint8

COUNT = 500


def main(folder: Path, choices: list[str]) -> None:
    """Train what is missing and print a line for each digit."""
    print("| left out | read as it | read most often as | the nine others read as asked for |\n|---|---|---|---|")
    scores = []
    for digit in range(10):
        run = folder / str(digit)
        status = read_status(run) if run.is_dir() else None
        if status is None or status.state != "done":
            others = [other for other in range(10) if other != digit]
            condgen.train("experiment=mnist_strokes", f"data.classes={others}", *choices, f"hydra.run.dir={run}")
        model = condgen.load(run)
        extractor = build("extractor", read_plain(run / "config.yaml")["extractor"])
        found = torch.stack([read(extractor, model.sample(str(asked), COUNT)).bincount(minlength=10) for asked in names(model)])
        mine = found[names(model).index(str(digit))] / COUNT
        asked = torch.tensor([int(name) for name in names(model)])
        right = found.gather(1, asked[:, None])[:, 0] / COUNT
        trained = right[asked != digit].mean()
        most = ", ".join(f"{other} ({mine[other]:.2f})" for other in mine.argsort(descending=True)[:2].tolist())
        scores.append(float(mine[digit]))
        print(f"| {digit} | {mine[digit]:.3f} | {most} | {trained:.3f} |", flush=True)
    print(f"\nMean over the ten: {sum(scores) / len(scores):.3f}; chance: 0.1.")


def names(model: Generator) -> list[str]:
    """Return what a model can be asked for."""
    found: list[str] = model.condition.schema()["properties"]["class"]["enum"]
    return found


def read(extractor: object, samples: torch.Tensor) -> torch.Tensor:
    """Return the digit that each sample (N, 1, 28, 28) is read as, int64 (N,)."""
    _, outputs = extractor(to_uint8(samples))  # type: ignore[operator]
    return extractor.class_logits(outputs).argmax(1)  # type: ignore[attr-defined, no-any-return]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
