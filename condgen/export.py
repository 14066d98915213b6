"""``condgen export``: a trained generator as a folder with its card, as an ONNX graph, or as a torch.export program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condgen.errors import CondgenError
from condgen.exporting.card import Card, card_of, evaluation_of, figures_of
from condgen.exporting.folder import write_folder
from condgen.generators.base import Generator
from condgen.generators.sampling import OPTIONS
from condgen.run.checkpoint import find, has_average, read, restore
from condgen.run.exported import read_config
from condgen.run.stored import run_of, stored_config

ENDINGS = {"folder": "", "onnx": ".onnx", "pt2": ".pt2"}
"""The formats there are, and how the names of their files end."""


def export(
    model: Path,
    out: Path,
    form: str = "folder",
    half: bool = False,
    sampling: Sequence[str] = (),
    licence: str | None = None,
    limits: Sequence[str] = (),
    trust: bool = False,
) -> str:
    """Write a trained generator for others to use; of the weights their moving average, where the run kept one.

    Args:
        model: a run directory, a checkpoint, an exported folder, or ``zoo:NAME``.
        out: a new folder, or for graphs a new .onnx or .pt2 file.
        form: "folder", "onnx" or "pt2".
        half: write the weights of a folder in 16 bits.
        sampling: options with which samples are drawn unless others are asked for, such as ``"steps=4"``; in graphs for good.
        licence: of the weights, in a hub's identifiers; None: that of the data, where it is known.
        limits: sentences for the card.
        trust: accept foreign classes in the checkpoint.

    Returns:
        A line that says what was written.

    Raises:
        CondgenError: no such model, a place that is taken, or a generator that this format cannot hold.
    """
    if form not in ENDINGS:
        raise CondgenError(f"--format must be {', '.join(ENDINGS)}, not {form}.")
    if out.suffix != ENDINGS[form] and (ENDINGS[form] or out.suffix in ENDINGS.values()):
        raise CondgenError(f"--out {out} must be {f'a file that ends in {ENDINGS[form]}' if ENDINGS[form] else 'a folder'}.")
    if out.is_symlink() or (out.exists() and (out.is_file() or ENDINGS[form] or any(out.iterdir()))):
        raise CondgenError(f"--out {out} exists already: choose another place, nothing was overwritten.")
    if half and form != "folder":
        raise CondgenError("--half is for folders, whose weights are computed with in 32 bits: leave it out.")
    path = find(model)
    content = read(path)
    generator = restore(content, path, trust)
    generator.set_sampling(**chosen(sampling))
    card, evaluation = known_of(path, content, generator, trust)
    card |= {"licence": licence} if licence else {}
    card["limits"] = [*card["limits"], *limits]
    if form == "folder":
        kind = "ema" if has_average(content) else "raw"
        recipe, step = content["condgen"], content["global_step"]
        write_folder(out, generator, recipe, kind=kind, step=step, half=half, card=card, evaluation=evaluation)
        return f"written to {out}"
    from condgen.exporting.graph import write_onnx, write_pt2

    difference = (write_onnx if form == "onnx" else write_pt2)(out, generator, card)
    return f"written to {out}; it differs from torch by at most {difference:.1e}, pixels being in [-1, 1]"


def chosen(sampling: Sequence[str]) -> dict[str, float | int | str]:
    """Read sampling options, ``"steps=4"``; raises CondgenError for one that nothing can be sampled with."""
    found: dict[str, float | int | str] = {}
    for text in sampling:
        name, equals, value = text.partition("=")
        if name not in OPTIONS or not equals:
            raise CondgenError(f"--sampling {text} must be NAME=VALUE with one of {', '.join(OPTIONS)}.")
        try:
            found[name] = OPTIONS[name].kind(value)
        except ValueError as error:
            raise CondgenError(f"--sampling {text}: {value!r} is no {OPTIONS[name].kind.__name__}.") from error
    return found


def known_of(path: Path, content: dict[str, Any], generator: Generator, trust: bool) -> tuple[Card, dict[str, Any]]:
    """Return the card of a generator that was read from ``path``, and the nodes that measure it."""
    if path.is_dir():
        config = read_config(path)
        card = {key: value for key, value in config["card"].items() if key != "name"}
        if generator.sampling != config["sampling"]:  # with which the figures were measured
            card["figures"] = []
        return card, config["evaluation"]
    run = run_of(path)
    config = stored_config(run, trust) if run else {}
    step, kind = content["global_step"], "ema" if has_average(content) else "raw"
    figures = figures_of(run, step, kind, generator.sampling) if run else []
    return card_of(generator, config, run, step, figures), evaluation_of(config)
