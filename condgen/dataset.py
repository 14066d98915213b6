"""``condgen data``: a data set as it would be trained on: classes and counts, sizes, pictures, and what augmentation does."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condgen.config.build import build
from condgen.config.compose import by_choices
from condgen.config.folder import choices
from condgen.config.validate import check_node
from condgen.data import DataModule
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.files import require_writable, save_png
from condgen.randomness import generator
from condgen.reporting.tables import Cell, Column, text_table
from condgen.resume import changed
from condgen.run.stored import stored_config
from condgen.spaces import Images, to_float

ROWS = 12
"""Images of each class in a picture, and classes in the picture of augmentations."""
DECIDING = ("source", "classes", "imbalance", "split", "split_seed")
"""Keys of the data that decide which images train."""


def show_data(data: str, overrides: list[str], augment: list[str], out: Path | None = None, trust: bool = False) -> str:
    """Return what a data set is, as text; write its pictures where ``out`` names a folder.

    Args:
        data: a choice in conf/data, a folder or zip of images, or a run whose data to take.
        overrides: keys of the data, such as ``data.imbalance=longtail:100``.
        augment: choices in conf/augment, or nodes such as ``{_target_: torchvision.transforms.v2.RandomInvert}``, one after the
            other.
        out: a folder for ``images.png`` and ``augmented.png``.
        trust: accept foreign classes in a stored configuration.

    Raises:
        CondgenError: the data or an augmentation cannot be had.
    """
    config = composed_data("data", data, [*overrides, *augmentations(augment)], trust)
    check_node("data", config["data"])
    if out:
        require_writable(out)
    module: DataModule = build("data", config["data"] | {"drop_last": False})
    module.prepare()
    lines = [told_counts(module), f"Each is {module.space}."]
    if out:
        lines += [f"written to {path}" for path in pictures(module, out)]
    return "\n".join(lines)


def augmentations(chosen: list[str]) -> list[str]:
    """Return the overrides of ``--augment``, given several times or once."""
    if not chosen:
        return []
    if len(chosen) == 1 and not chosen[0].startswith(("{", "[")):
        return [f"augment={chosen[0]}"]
    if odd := next((one for one in chosen if not one.startswith(("{", "["))), None):
        raise CondgenError(f"--augment {odd} is a choice and stands alone: several are nodes, {{_target_: CLASS, KEY: VALUE}}.")
    return [f"data.augment={chosen[0] if len(chosen) == 1 else '[' + ', '.join(chosen) + ']'}"]


def composed_data(verb: str, data: str, overrides: list[str], trust: bool = False) -> dict[str, Any]:
    """Return the plain configuration of ``verb`` with the data that a word names.

    Args:
        verb: the name of a file in conf/.
        data: a choice in conf/data, a folder of class sub-folders, a zip, or a run directory.
        overrides: choices and keys.
        trust: accept foreign classes in a stored configuration.

    Raises:
        CondgenError: there are no such data, or an override does not exist.
    """
    path, known = Path(data), None
    if data in choices("data"):
        overrides = [f"data={data}", *overrides]
    elif (path / "config.yaml").is_file():
        known = stored_config(path, trust)["data"]
    elif path.is_dir():
        overrides = ["data=folder", f"data.source.path={path.resolve()}", *overrides]
    elif path.suffix == ".zip" and path.is_file():
        overrides = ["data=archive", f"data.source.path={path.resolve()}", *overrides]
    else:
        raise CondgenError(f"{data} is no data: choose {', '.join(choices('data'))}, or name a folder, a zip or a run.")
    config, deep = by_choices(verb, overrides)
    config["data"] = (known or {}) | (config["data"] or {})
    return changed(config, deep)


def same_training_images(known: dict[str, Any] | None, chosen: dict[str, Any]) -> str:
    """Return in which key two sections ``data`` differ that decides which images train; "" if they are the same."""
    if known is None:
        return "its data are not known"
    for key in DECIDING:
        one, other = (json.dumps(node.get(key), sort_keys=True, default=str) for node in (known, chosen))
        if one != other:
            return f"data.{key} is {one} there and {other} here"
    return ""


def told_counts(data: DataModule) -> str:
    """Return a table of how many images each class has in each part."""
    parts = {"train": data.train, "val": data.val}
    if data.has_test:
        parts["test"] = data.test
    names = data.class_names or ["all"]
    columns = [Column("class", [Cell(name) for name in [*names, "in all"]])]
    for title, part in parts.items():
        counts = torch.bincount(part.labels, minlength=len(names)).tolist()
        columns.append(Column(title, [Cell(f"{count:,}") for count in [*counts, len(part)]], number=True))
    return "\n".join(text_table(columns, 100)).rstrip()


def pictures(data: DataModule, out: Path) -> list[Path]:
    """Write a grid of training images, a row for each class, and one of what augmentation does; return the files."""
    if not isinstance(data.space, Images):
        raise CondgenError("--out is for images, and these samples are none: leave it out.")
    first = firsts(data.train, ROWS)
    grids = {"images": data.space.grid(to_float(data.train.images[torch.cat(first)]), ROWS)}
    if data.augment is not None:
        ones = to_float(data.train.images[torch.tensor([int(rows[0]) for rows in first])])
        shown = [ones]
        for epoch in range(ROWS - 1):
            u = torch.rand(len(ones), data.augment.draws, generator=generator(data.seed, "augment", epoch, 0))
            shown.append(data.augment(ones, u))
        grids["augmented"] = data.space.grid(torch.stack(shown, 1).flatten(0, 1), ROWS)  # the image itself comes first
    for name, picture in grids.items():
        save_png(out / f"{name}.png", picture)
    return [out / f"{name}.png" for name in grids]


def firsts(part: Part, count: int) -> list[Tensor]:
    """Return for each of the first classes the places of ``count`` images in ``part``, those of a small class repeated."""
    found = []
    for label in sorted(set(part.labels.tolist()))[: 2 * ROWS]:
        rows = (part.labels == label).nonzero()[:, 0]
        found.append(rows[torch.arange(count) % len(rows)])
    return found
