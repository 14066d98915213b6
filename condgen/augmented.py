"""``condgen augment``: a data set of real training images and generated ones, with a table that says which is which.

Reads top to bottom: what is wanted is worked out and checked, real images are written, then generated ones class by class until
there are enough. It grows beside the place that is asked for; a command that was killed goes on (`condgen.downstream.pieces`).
"""

import logging
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from condgen.benefit import fitting
from condgen.config.build import build
from condgen.config.validate import check_node
from condgen.data import DataModule
from condgen.data.prepare import class_labels
from condgen.data.tables import Part
from condgen.downstream.pieces import Made, Row, Stage
from condgen.downstream.selection import Selection, known_images
from condgen.downstream.training import Budget, make_network, train
from condgen.errors import CondgenError
from condgen.evaluate import known_of
from condgen.export import chosen
from condgen.files import replacing, require_writable
from condgen.generators.base import BLOCK, Generator
from condgen.images import to_png
from condgen.metrics.kept import fingerprint
from condgen.nets.classifier import Classifier
from condgen.run.checkpoint import device_of, find, load
from condgen.run.messages import logging_to
from condgen.run.stored import run_of
from condgen.samples import Request, origin_of
from condgen.spaces import to_uint8

log = logging.getLogger("condgen")
CHUNK = 500
"""Real images in a piece."""
JUDGE = Budget(updates=600, batch_size=128, rate=2e-3)
"""What the classifier of ``--keep`` is trained for."""
SPARE = 4
"""With ``--no-copies``, times as many candidates as are wanted are drawn at most."""


def augment(
    model: Path,
    out: Path,
    *,
    balance: bool = False,
    count: str | None = None,
    condition: str | None = None,
    keep: float | None = None,
    copies: bool = True,
    seed: int = 0,
    sampling: list[str] | None = None,
    device: str = "cpu",
    trust: bool = False,
) -> str:
    """Write the training images that ``model`` learned from and generated ones to ``out``, and say how many.

    Args:
        model: a checkpoint, a run directory, an exported folder or ``zoo:NAME``, of images with classes.
        out: a folder, with ``train`` and, of the real images alone, ``test``; or ``FILE.zip``, with ``FILE-test.zip``.
        balance: fill every class up to the largest.
        count: so many of each class, ``500``, or of some, ``0=500,3=200``.
        condition: the classes to fill, such as ``8,9``; None: all.
        keep: share of the candidates that is taken, those of which a classifier trained on the real images is surest.
        copies: False leaves out what is nearer to a training image than unseen real images are.
        seed: decides the noise.
        sampling: options such as ``guidance=2``.
        device: where to compute.
        trust: accept foreign classes in the stored configuration.

    Raises:
        CondgenError: something does not fit together; the data that the model learned from are never written to.
    """
    logging_to(None)
    checkpoint = find(model)
    generator = load(checkpoint, trust).to(device_of(device))
    generator.set_sampling(**chosen(sampling or []))
    node = data_node(checkpoint, trust)
    data = fitting(generator, build("data", node), checkpoint, {"foreign": False, "data": node}, trust, tested=False)
    wanted = numbers(data, generator, balance, count, condition)
    if keep is not None and not 0 < keep <= 1:
        raise CondgenError(f"--keep {keep:g} must be above 0 and at most 1, the share of the candidates that is taken.")
    check_out(out, node)
    asked = origin_of(generator, Request(None, count=1, seed=seed, sampling=generator.sampling))
    same = {"data": fingerprint(data.train), "wanted": wanted, "keep": keep, "copies": copies, "origin": asked.text()}
    with Stage(out, same) as stage:
        rows = [row for part in ("train", "test") for row in real_rows(stage, data, part)]
        known = None if copies else known_images(data.train, data.val)
        selection = Selection(keep, None if keep is None else judge(stage, data, seed, device), known)
        with tqdm(desc="drawing", total=sum(wanted.values()), unit=" images", leave=False, delay=2, disable=None) as bar:
            for label, number in wanted.items():
                for some in generated_rows(stage, generator, data.class_names[label], label, number, selection, seed):
                    rows += some
                    bar.update(len(some))
        places = stage.finish(rows, data.class_names)
    real, made = (sum(row["part"] == "train" and row["source"] == source for row in rows) for source in ("real", "generated"))
    return f"{real:,} real and {made:,} generated training images, written to {' and '.join(map(str, places))}"


def data_node(checkpoint: Path, trust: bool) -> dict[str, Any]:
    """Return the data section of what a model was trained with; raises CondgenError where it is not known."""
    if checkpoint.is_file() and run_of(checkpoint) is None:
        raise CondgenError(f"{checkpoint} lies in no run directory, so its data are not known: name the run.")
    node = known_of(checkpoint, trust).get("data")
    if not node:
        raise CondgenError(f"{checkpoint} does not say which data it was trained on: name the run.")
    check_node("data", node)
    return dict(node)


def numbers(data: DataModule, model: Generator, balance: bool, count: str | None, condition: str | None) -> dict[int, int]:
    """Return how many images of each class are to be generated; raises CondgenError where that is not said, or twice."""
    if balance == (count is not None):
        raise CondgenError("Say how many images to generate: --balance, --count 500 for each class, or --count 0=500,3=200.")
    sizes = torch.bincount(data.train.labels, minlength=len(data.class_names)).tolist()
    picked = range(len(sizes)) if condition is None else sorted(set(model.condition.encode(condition).tolist()))
    if balance:
        found = {label: max(sizes) - sizes[label] for label in picked}
    elif count is not None and "=" not in count:
        found = dict.fromkeys(picked, number_of(count, count))
    else:
        if condition is not None:
            raise CondgenError(f"--count {count} names classes already: leave --condition out.")
        pairs = [pair.rpartition("=") for pair in str(count).split(",")]
        found = class_labels(data.class_names, [(name.strip(), number_of(n, str(count))) for name, _, n in pairs], "--count")
    found = {label: number for label, number in sorted(found.items()) if number}
    if not found:
        raise CondgenError("There is nothing to generate: every class is as large as the largest already.")
    return found


def number_of(text: str, whole: str) -> int:
    """Return a number of images; raises CondgenError where ``text``, a part of ``whole``, is none."""
    if not text.strip().isdecimal():
        raise CondgenError(f"--count {whole} must be a number such as 500, or numbers of classes such as 0=500,3=200.")
    return int(text)


def check_out(out: Path, node: dict[str, Any]) -> None:
    """Refuse a place that is no folder or zip, or that lies within the source of the data; raises CondgenError."""
    if out.suffix not in ("", ".zip") or out == Path():
        raise CondgenError(f"--out {out} must be a new folder, or a .zip.")
    source = node["source"].get("path") if isinstance(node["source"], dict) else None
    if source and out.resolve().is_relative_to(Path(source).resolve()):
        raise CondgenError(f"--out {out} lies within {source}, the source of the data, which stays as it is: choose another.")
    require_writable(out.parent)


def real_rows(stage: Stage, data: DataModule, name: str) -> Iterator[Row]:
    """Write the real images of a part, as far as the data have it, and yield their rows."""
    if name == "test" and not data.has_test:
        return
    part: Part = getattr(data, name)
    for start in range(0, len(part), CHUNK):
        yield from stage.piece(f"{name}-{start}", real_images(part, data.class_names, name, start))


def real_images(part: Part, classes: list[str], name: str, start: int) -> Iterator[Made]:
    """Yield real images from number ``start`` of a part, a piece of them."""
    rows = part.rows[start : start + CHUNK]
    for i, (image, label) in enumerate(zip(part.table.images[rows], part.table.labels[rows].tolist(), strict=True), start):
        file = f"{name}/{folder_of(classes[label])}/real-{i:06d}.png"
        yield Made({"file": file, "label": classes[label], "part": name, "source": "real"}, to_png(image))


def folder_of(name: str) -> str:
    """Return the name of a class's folder; raises CondgenError where a class cannot have one."""
    if "/" in name or "\0" in name or name.startswith("."):
        raise CondgenError(f"The class {name!r} cannot be the name of a folder: choose a .zip as --out after renaming it.")
    return name


def generated_rows(
    stage: Stage, model: Generator, name: str, label: int, number: int, selection: Selection, seed: int
) -> Iterator[list[Row]]:
    """Write ``number`` generated images of a class, block by block, and yield their rows.

    Raises:
        CondgenError: too few of the candidates were fit to be taken.
    """
    most = BLOCK * (math.ceil(number / (selection.keep or 1.0) * (SPARE if selection.known else 1) / BLOCK) + 1)
    request = Request(name, count=most, seed=seed, sampling=model.sampling)
    have = 0
    for block in range(most // BLOCK):
        if have == number:
            return
        made = generated_images(model, request, label, block, number - have, selection)
        rows = stage.piece(f"generated-{label}-{block}", made)
        have += len(rows)
        yield rows
    if have < number:
        raise CondgenError(
            f"Of {most:,} candidates of class {name} only {have:,} were fit to be taken, and {number:,} are wanted: "
            "ask for fewer, or leave --no-copies out."
        )


def generated_images(
    model: Generator, request: Request, label: int, block: int, left: int, selection: Selection
) -> Iterator[Made]:
    """Yield the images of a block that are taken; each PNG says which sample of which request it is."""
    origin = origin_of(model, request)
    images = to_uint8(model.sample_block(block, torch.full((BLOCK,), label), request.seed).cpu())
    places, told = selection(images, label, left)
    for place, known in zip(places.tolist(), told, strict=True):
        index = block * BLOCK + place
        row = {"file": f"train/{folder_of(str(request.condition))}/generated-{index:06d}.png", "label": str(request.condition)}
        row |= {"part": "train", "source": "generated", "model": origin.model, "weights": origin.weights}
        row |= {"seed": str(request.seed), "index": str(index)} | known
        yield Made(row, to_png(images[place], origin.one(index).texts()))


def judge(stage: Stage, data: DataModule, seed: int, device: str) -> nn.Module:
    """Return a classifier that was trained on the real training images alone, kept in the stage for when it goes on."""
    images, labels = data.train.images, data.train.labels
    network = make_network(partial(Classifier, widths=(32, 64, 128)), images, len(data.class_names), seed).to(device)
    file = stage.folder / "judge.pt"
    if file.is_file():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    log.info("Training a classifier on %s real images, to choose by.", f"{len(images):,}")
    train(network, images, labels, JUDGE, balance=1.0, seed=seed)
    with replacing(file) as temporary:
        torch.save(network.state_dict(), temporary)
    return network
