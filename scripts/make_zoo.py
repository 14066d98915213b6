"""Make the generators that ship with condgen, condgen/zoo/NAME: train, measure with 32 and with 16 bits, export.

    uv run python scripts/make_zoo.py --runs outputs/zoo                      # all of them
    uv run python scripts/make_zoo.py --runs outputs/zoo --only mnist-best    # one

``--runs`` is a folder with a run directory (or a link to one) for each name; what has no finished run there is trained into it,
and what already ships with the weights of its run is left as it is, unless ``--again``. Figures are those of the test part,
with the 16 bits that ship; the card says how far they are from those of 32. Both are kept in the run, in zoo/16 and zoo/32, and
taken from there the next time, unless ``--measure``. ``--samples 0`` takes the figures that the run has of itself.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import condgen
from condgen.config.reading import read_plain
from condgen.errors import CondgenError
from condgen.export import known_of
from condgen.exporting.card import rows
from condgen.exporting.folder import write_folder
from condgen.generators.base import Generator
from condgen.metrics.catalogue import METRICS
from condgen.metrics.record import Record, read_records
from condgen.randomness import generator as keyed_generator
from condgen.run.checkpoint import find, has_average, read, restore
from condgen.run.exported import WEIGHTS, ZOO, read_config
from condgen.run.status import read_status
from condgen.spaces import to_uint8

MOST_BYTES = 12 * 2**20
"""What all weights together may take: they are part of each installation."""
COMPARED = 200
"""Samples whose pixels are compared between 32 and 16 bits."""
COMPARED_BY = ("fid", "label_accuracy", "attribute_accuracy")
"""Figures that are compared."""


@dataclass(frozen=True)
class Entry:
    """A generator that ships.

    Attributes:
        choices: of the ``condgen train`` that makes it.
        limits: what its card says beside what its figures do.
        licence: of the weights, where it is not that of the data.
    """

    choices: tuple[str, ...]
    limits: tuple[str, ...] = ()
    licence: str | None = None


PRINTS = "Its clothes have the right shapes, but prints, patterns and the straps of sandals are blurred or invented."
PHOTOS = "It is small and was trained for a short time: most of its pictures are seen to be made."
ENTRIES = {
    "mnist-best": Entry(("experiment=mnist_best",)),
    "mnist-attributes": Entry(
        ("experiment=mnist_attributes_gan",),
        ("Rotation is trusted to a few degrees only: the network that measures it errs by about four on real images.",),
    ),
    "mnist-inpaint": Entry(
        ("experiment=mnist_inpaint",),
        ("What it draws into a hole hardly differs from seed to seed: the picture around it says almost all.",),
    ),
    "mnist-flow-matching": Entry(
        ("experiment=mnist_flow_matching",),
        ("A sample takes 20 evaluations of its network, each with and without the condition.",),
    ),
    "mnist-vae-flow": Entry(("experiment=mnist_vae_flow",), ("Its strokes are softer than real ones.",)),
    "cifar10": Entry(("experiment=cifar10_quick",), (PHOTOS,)),
    "fashion-mnist": Entry(("experiment=fashion_mnist_quick",), (PRINTS,)),
}
"""What ships, by name."""


def main(arguments: Sequence[str]) -> None:
    """Make what is asked for, and print what ships."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, each under its name")
    parser.add_argument("--only", nargs="+", default=list(ENTRIES), choices=list(ENTRIES), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="also those that ship already")
    parser.add_argument("--no-train", action="store_true", help="leave out what has no finished run")
    parser.add_argument("--samples", type=int, default=10_000, help="drawn for each measurement; 0: the figures of the runs")
    parser.add_argument("--measure", action="store_true", help="measure anew what has been measured")
    parser.add_argument("--choices", nargs="*", default=[], help="further choices for trainings, such as run.threads=2")
    parser.add_argument("--out", type=Path, default=ZOO)
    given = parser.parse_args(arguments)
    for name in given.only:
        run = given.runs / name
        if not finished(run) and (given.no_train or running(run)):
            print(f"{name}: no finished run in {run}", flush=True)
            continue
        if not finished(run):
            train(run, [*ENTRIES[name].choices, *given.choices])
        if given.again or not (given.out / name).exists():
            make(run, given.out / name, ENTRIES[name], given.samples, given.measure)
    print(table(given.out))
    if (total := sum(path.stat().st_size for path in given.out.rglob(WEIGHTS))) > MOST_BYTES:
        sys.exit(f"The weights take {total / 2**20:.1f} MiB, more than {MOST_BYTES / 2**20:.0f}: ship smaller generators.")


def finished(run: Path) -> bool:
    """Whether a run has come to its end."""
    status = read_status(run) if run.is_dir() else None
    return status is not None and status.state == "done"


def running(run: Path) -> bool:
    """Whether somebody trains it now."""
    status = read_status(run) if run.is_dir() else None
    return status is not None and status.state in ("running", "queued")


def train(run: Path, choices: Sequence[str]) -> None:
    """Train in a process of its own, as a user would."""
    verb = ["resume", str(run)] if (run / "config.yaml").is_file() else ["train", *choices, f"hydra.run.dir={run}"]
    subprocess.run([sys.executable, "-m", "condgen", *verb], check=True)


def make(run: Path, out: Path, entry: Entry, samples: int, anew: bool) -> None:
    """Export a run in 16 bits, measured with them and without.

    With no ``samples``, or without an extractor, its card has the figures of the run.
    """
    path = find(run)
    content = read(path)
    generator = restore(content, path)
    card, evaluation = known_of(path, content, generator, trust=False)
    card |= {"limits": list(entry.limits)} | ({"licence": entry.licence} if entry.licence else {})
    about = {"kind": "ema" if has_average(content) else "raw", "step": content["global_step"], "evaluation": evaluation}
    with tempfile.TemporaryDirectory() as folder:
        narrow = Path(folder) / out.name
        write_folder(narrow, generator, content["condgen"], half=True, card=card, **about)
        card["half"] = pixels_compared(generator, condgen.load(narrow))
        if samples and evaluation.get("extractor"):
            compared = f"suite=[{','.join(COMPARED_BY)}]"
            wide = measured(run, run / "zoo" / "32", [compared], samples, about["step"], anew)
            record = measured(narrow, run / "zoo" / "16", places(run), samples, about["step"], anew)
            card |= {"figures": rows(record), "half": f"{figures_compared(wide, record)} {card['half']}"}
        else:
            card["half"] = f"The figures are of the weights in 32 bits. {card['half']}"
    if out.exists():
        for file in out.iterdir():
            file.unlink()
    write_folder(out, generator, content["condgen"], half=True, card=card, **about)
    print(f"{out.name}: {card['half']}", flush=True)


def measured(target: Path, folder: Path, choices: Sequence[str], samples: int, step: int, anew: bool) -> Record:
    """Return the figures of a model on test data, those that ``folder`` has of the same weights and as many samples if any."""
    file = folder / "metrics.json"
    for record in read_records(file) if file.exists() and not anew else []:
        if (record.step, record.protocol.generated, record.protocol.reference) == (step, samples, "test"):
            return record
    return condgen.evaluate(target, *choices, "split=test", f"samples={samples}", out=folder)


def places(run: Path) -> list[str]:
    """Return where the data of a run lie on this machine, which an exported folder does not know."""
    source = read_plain(run / "config.yaml")["data"]["source"]
    return [f"data.source.{key}={value}" for key, value in source.items() if isinstance(value, str) and "/" in value]


def figures_compared(wide: Record, narrow: Record) -> str:
    """Say how far figures of weights in 16 bits are from those in 32."""
    parts = [
        f"{METRICS[metric].title} {narrow.figures[metric]:.4g}, with 32 bits {wide.figures[metric]:.4g}"
        for metric in COMPARED_BY
        if metric in wide.figures and metric in narrow.figures
    ]
    return f"The figures are of the weights in 16 bits, as they are here: {'; '.join(parts)}."


def pixels_compared(wide: Generator, narrow: Generator) -> str:
    """Say how far samples of weights in 16 bits are from those in 32."""
    images = [to_uint8(sampled(generator)).int() for generator in (wide, narrow)]
    levels = (images[0] - images[1]).abs()
    share, most = (levels > 0).float().mean(), int(levels.max())
    return (
        f"Of {len(images[0]):,} samples from the same noise, {share:.2%} of the pixels differ between 32 and 16 bits, the most "
        f"by {most} of 255 levels."
    )


def sampled(generator: Generator) -> torch.Tensor:
    """Draw `COMPARED` samples, for random conditions; where they are images, for noise."""
    stream = keyed_generator(0, "compared")
    if generator.condition.image is None:
        return generator.sample(generator.condition.draw(COMPARED, stream))
    pictures = torch.rand(COMPARED, *generator.space.shape, generator=stream) * 2 - 1
    return generator.sample(torch.cat([generator.condition.ask(None, picture)[:1] for picture in pictures]))


def table(folder: Path) -> str:
    """Return what ships, with its size and its first figures."""
    lines = []
    for name in sorted(path.parent.name for path in folder.glob("*/config.json")):
        card = read_config(folder / name)["card"]
        figures = {row["metric"]: row["value"] for row in card["figures"]}
        told = ", ".join(f"{metric} {figures[metric]:.4g}" for metric in ("fid", "label_accuracy") if metric in figures)
        lines.append(f"{name:20} {card['bytes'] / 1e6:5.2f} MB  {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CondgenError as error:
        sys.exit(str(error))
