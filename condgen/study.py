"""``condgen study``: people tell real pictures from generated ones, or choose between two models' pictures.

Reads top to bottom: a study is made of models and data, its page is served, its answers are counted.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import torch
from annotated_types import Ge
from torch import Tensor

from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.evaluate import Sampling, known_of, settings
from condgen.files import require_writable, write_text
from condgen.generators.base import Generator
from condgen.metrics.kept import fingerprint
from condgen.run.checkpoint import device_of, find, has_average, read, restore
from condgen.run.stored import run_of
from condgen.samples import digest_of
from condgen.spaces import pictures, to_uint8
from condgen.studies.answers import read_people
from condgen.studies.results import place_in_run, write_results
from condgen.studies.trials import (
    SIDES,
    Model,
    Question,
    Study,
    Trial,
    arranged,
    paired,
    read_study,
    require_empty,
    write_study,
)

DATA = "data"
"""What ``--against`` names for real images."""


class Asking(TypedDict, total=False):
    """The keys of a study, conf/study.yaml."""

    split: Literal["val", "test"]
    trials: Annotated[int, Ge(2)]
    question: Question
    feedback: bool
    seed: int
    weights: Literal["ema", "raw"]
    sampling: Sampling


def study(
    target: Path,
    overrides: list[str],
    against: Path | None = None,
    out: Path | None = None,
    device: str = "cpu",
    trust: bool = False,
) -> Path:
    """Return the folder of the study that ``target`` is, or that is made of it.

    Args:
        target: the folder of a study, which is as it was made; or a model: a checkpoint, a run directory, an exported folder
            or ``zoo:NAME``.
        overrides: choices and keys of ``conf/study.yaml``, e.g. ``trials=100`` or ``question=both``.
        against: ``data``, real images, which is None too; or another model.
        out: the folder to write; needed for a new study.
        device: where to compute.
        trust: accept foreign classes in the stored configuration.

    Raises:
        CondgenError: something does not fit together; nothing is written.
    """
    if (target / "study.json").is_file():
        if overrides or against or out:
            raise CondgenError(f"{target} is a study already and stays as it is: name it alone, or a run and another --out.")
        read_study(target)
        return target
    if out is None:
        raise CondgenError("--out FOLDER is needed: a new study is written there.")
    require_empty(out)
    require_writable(out.parent)
    made, pictures = drawn(target, overrides, against, out, device, trust)
    write_study(out, made, pictures)
    if place := place_in_run(out, made):
        with contextlib.suppress(CondgenError):  # of a run that may only be read, figures stay with the study
            write_text(place / "study.json", (out / "study.json").read_text(encoding="utf-8"))
    return out


def drawn(
    target: Path, overrides: list[str], against: Path | None, out: Path, device: str, trust: bool
) -> tuple[Study, dict[str, Tensor]]:
    """Return a new study and its pictures, uint8 (C, H, W) by their names; see `study`."""
    checkpoint = find(target)
    config = settings(target, known_of(checkpoint, trust), overrides, verb="study", keys=Asking, needed=("data",))
    paths = [checkpoint] + ([find(against)] if against and str(against) != DATA else [])
    loaded = [contender(path, out, config, trust) for path in paths]
    data: DataModule = build("data", config["data"])
    models = [model for model, _ in loaded]
    part, classes = fitting(models, data, config, paths)
    trials, pictures = shown([model.to(device_of(device)) for model in models], data, part, classes, config)
    made = Study(
        version=version("condgen"),
        question=config["question"],
        feedback=config["feedback"],
        seed=config["seed"],
        split=config["split"],
        data=fingerprint(part),
        classes=classes,
        models=[told for _, told in loaded],
        trials=trials,
    )
    return made, pictures


def contender(path: Path, out: Path, config: dict[str, Any], trust: bool) -> tuple[Generator, Model]:
    """Load a model, sampled as the configuration says, and say which it is."""
    content = read(path)
    model = restore(content, path, trust, config["weights"])
    if not pictures(model.space):
        raise CondgenError(f"People can judge images and {path} makes {type(model.space).__name__.lower()}.")
    model.set_sampling(**config["sampling"])
    run = run_of(path)
    return model, Model(
        name=f"{run.parent.name}/{run.name}" if run else path.name if path.is_dir() else path.stem,
        source=path.stem,
        run=os.path.relpath(run, out.resolve()) if run else None,
        weights=digest_of(model),
        average="ema" if config["weights"] == "ema" and has_average(content) else "raw",
        step=content.get("global_step"),
        sampling=model.sampling,
    )


def fitting(models: list[Generator], data: DataModule, config: dict[str, Any], paths: list[Path]) -> tuple[Part, list[str]]:
    """Return the real images at the models' size, and the names of the classes that they and the samples have.

    A sample that starts from an image has the class of this image, though nobody asks for it.

    Raises:
        CondgenError: models or data differ in what they make or in what can be asked for, or the question needs classes.
    """
    first, *others = models
    for other in others:
        if other.space.shape != first.space.shape:
            raise CondgenError(
                f"{paths[0]} makes images of {first.space} and {paths[1]} of {other.space}: only equal ones can be compared."
            )
        if other.condition.config() != first.condition.config():
            raise CondgenError(
                f"{paths[0]} and {paths[1]} cannot be asked for the same: only models of one condition can be compared."
            )
    if not pictures(data.space):
        raise CondgenError(f"People can judge images and the data are {type(data.space).__name__.lower()}: choose others.")
    classes = data.condition.classes
    if first.condition.classes and first.condition.classes != classes:
        raise CondgenError(
            f"{paths[0]} generates the classes {', '.join(first.condition.classes[:5])}, ... and the data have "
            f"{', '.join(classes[:5]) or 'none'}, ...: choose the data that it was trained on."
        )
    if config["question"] != "real" and not others and len(classes) < 2:
        raise CondgenError(f"question={config['question']} needs data with classes: set question=real.")
    if config["question"] != "real" and others and not first.condition.width:
        raise CondgenError(f"question={config['question']} needs models with a condition in words: set question=real.")
    if not classes and first.condition.image is not None:
        classes = data.class_names
    sized = data if data.space.shape == first.space.shape else data.at(first.space.shape[1], first.space.shape[0])
    part: Part = getattr(sized, config["split"])
    return part, classes


def shown(
    models: list[Generator], data: DataModule, part: Part, classes: list[str], config: dict[str, Any]
) -> tuple[list[Trial], dict[str, Tensor]]:
    """Return the trials, and the pictures, uint8 (C, H, W), by their names: numbers, which say nothing."""
    choose = paired if len(models) == 2 else arranged
    rows, labels, keys = choose(part.labels, config["trials"], config["seed"])
    original: Part = getattr(data, config["split"])
    encoded = data.encode(original, torch.tensor(rows), models[0].condition)
    names = models[0].condition.describe(encoded)
    drawn = [sampled(model, encoded, config["seed"]) for model in models]
    trials: list[Trial] = []
    pictures: dict[str, Tensor] = {}
    for i, (row, label, key) in enumerate(zip(rows, labels, keys, strict=True)):
        if len(models) == 2:
            first = SIDES.index(key)
            images = [drawn[side != first][i] for side in range(2)]
            files = [f"{i + 1:04d}-{side}.png" for side in SIDES]
        else:
            images = [drawn[0][i] if key == "generated" else part.table.images[part.rows[row]]]
            files = [f"{i + 1:04d}.png"]
        pictures |= dict(zip(files, images, strict=True))
        trials.append(Trial(files, key, label if classes else 0, names[i]))
    return trials, pictures


def sampled(model: Generator, encoded: Tensor, seed: int) -> Tensor:
    """Draw a sample for each encoded condition (N, ...), uint8 (N, C, H, W), as files of samples have it."""
    samples = model.sample(encoded, seed=seed)
    if not bool(samples.isfinite().all()):
        raise CondgenError("The model generates pixels that are not numbers (NaN or infinite): there is nothing to judge.")
    return to_uint8(samples).cpu()


def results_of(folder: Path) -> str:
    """Count the answers to the study in ``folder``, write them and return the table; see `write_results`."""
    return write_results(folder, read_study(folder))


def host_study(make: Callable[[], Path], host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve the page of the study that ``make`` returns until Ctrl-C, and then count its answers.

    Args:
        make: see `study`; it is called once the page can be served.
        host: where to listen.
        port: the same; 0 for one that is free.
        say: told where the page is, and the results.

    Raises:
        CondgenError: there is no server, the port is taken, or there is no study.
    """
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise CondgenError('The page needs the extra serve: pip install "condgen[serve]".')
    from condgen.listening import LOCAL, listen
    from condgen.studies.server import application, serve

    with listen(host, port) as place:
        folder = make()
        found = read_study(folder)
        place.listen()
        read_people(folder, found)  # a line that cannot be is told now
        name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        url = f"http://{name}:{place.getsockname()[1]}"
        say(f"{folder} asks {len(found.slots)} questions at {url} (Ctrl-C ends it; the answers are kept)")
        with stoppable():
            serve(application(folder, found, local=host in LOCAL), place)
    say(results_of(folder))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and a request to end (SIGTERM) end the block, and what follows be done."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
