"""Reading checkpoints: safely, and back into a model that samples without its data."""

import shutil
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from condgen.config.build import check_stored
from condgen.errors import CondgenError
from condgen.files import replacing
from condgen.generators.base import Generator
from condgen.run.exported import PREFIXES, SCHEME, is_exported, read_exported, shipped_folder
from condgen.run.legacy import converted_checkpoint
from condgen.run.recipe import KEYS, build_generator

ANOTHER = "take another checkpoint of the run, or a copy"
"""What is left to do about a damaged one."""


def find(path: str | Path) -> Path:
    """Return what ``path`` means: a checkpoint itself, the best (else the last) one of a run directory, an exported folder.

    Raises:
        CondgenError: there is none.
    """
    if str(path).startswith(SCHEME):
        return shipped_folder(str(path))
    path = Path(path)
    if is_exported(path):
        return path
    if path.is_dir():
        candidates = [path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise CondgenError(f"{path} holds no checkpoint: expected {candidates[0]} or {candidates[1].name} beside it.")
    if not path.is_file():
        raise CondgenError(
            f"There is no checkpoint {path}: give a .ckpt file, a run directory, an exported folder or {SCHEME}NAME."
        )
    return path


def read(path: Path) -> dict[str, Any]:
    """Read what `find` has found without running any code from it (``weights_only=True``), under today's names.

    Raises:
        CondgenError: it is damaged, not condgen's, or contains anything but tensors and plain values.
    """
    return read_exported(path) if path.is_dir() else converted_checkpoint(read_as_written(path))


def read_as_written(path: Path) -> dict[str, Any]:
    """Read a checkpoint under the names that it was written with; see `read`."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as records:
                damaged = records.testzip()
            if damaged is not None:
                raise CondgenError(f"{path} is damaged, the checksum of its part {damaged} is wrong: {ANOTHER}.")
        # Mapped: what nobody uses, such as the states of optimizers, takes no memory.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CondgenError:
        raise
    except UnpicklingError as error:
        raise CondgenError(f"{path} was refused: it is no checkpoint, or holds more than tensors and plain values.") from error
    except Exception as error:  # on arbitrary bytes its parsers raise whatever they stumble over
        raise CondgenError(f"{path} could not be read as a checkpoint: it is damaged or cut short; {ANOTHER}.") from error
    if not isinstance(checkpoint, dict) or not {"condgen", "state_dict"} <= checkpoint.keys():
        raise CondgenError(f"{path} is not a checkpoint of condgen's.")
    return checkpoint


def upgrade(path: Path) -> bool:
    """Rewrite a checkpoint of condgen 0.1 under today's names, and keep it beside; return whether it was one.

    Raises:
        CondgenError: it is damaged, not condgen's, or cannot be written.
    """
    old = read_as_written(path)
    new = converted_checkpoint(old)
    if new is old:
        return False
    shutil.copyfile(path, path.with_name(f"{path.stem}-0.1.ckpt"))
    with replacing(path) as temporary:
        torch.save(new, temporary)
    return True


def device_of(name: str) -> torch.device:
    """Return the device ``name``; raises CondgenError if it is not here."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise CondgenError(f"--device {name} is not available here: use cpu.") from error


def load(path: str | Path, trust: bool = False, weights: str = "ema") -> Generator:
    """Load a trained generator, on the CPU and in eval mode, ready to ``sample``.

    Neither its data nor anything of its training is needed: no discriminator is built, no optimizer's state held in memory.

    Args:
        path: a checkpoint, a run directory (its best checkpoint, else its last), an exported folder, or ``zoo:NAME``.
        trust: accept targets beyond condgen's classes and torch's layers and optimizers; only for files you made.
        weights: "ema", averages over the training where the run kept them, or "raw", those of the last update.

    Raises:
        CondgenError: no checkpoint, a damaged one, or one that names foreign code.
    """
    path = find(path)
    return restore(read(path), path, trust, weights)


class Trained:
    """A trained generator for those who learn from it; stored configurations may name it, so it never trusts a file.

    Args:
        path: see `load`.

    Attributes:
        generator: itself.
    """

    def __init__(self, path: str):
        self.generator = load(path)


def restore(checkpoint: dict[str, Any], path: Path, trust: bool = False, weights: str = "ema") -> Generator:
    """Return the trained generator in a ``checkpoint`` that was read from ``path``; see `load`."""
    recipe = checkpoint["condgen"]
    if not isinstance(recipe, dict) or not recipe.keys() >= KEYS:
        raise CondgenError(f"{path} does not say which model it holds.")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # for the weights that are about to be replaced
        generator = build_generator(recipe, lambda node: check_stored(node, path, trust))
    kind = "ema" if weights == "ema" and has_average(checkpoint) else "raw"
    prefix = PREFIXES[kind]
    state = {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith(prefix)}
    if not state:
        raise CondgenError(f"{path} holds no {kind} weights, only their average: leave weights={kind} out.")
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise CondgenError(f"The weights in {path} do not fit the model that it describes.") from error
    for name, tensor in generator.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CondgenError(f"The weights {name} in {path} hold NaN or infinite values: nothing can be sampled with them.")
    if sampling := checkpoint.get("sampling"):
        if sampling.keys() - set(generator.OPTIONS):
            raise CondgenError(f"{path} is damaged: its sampling options are not those of its generator.")
        generator.set_sampling(**sampling)
        generator.defaults = dict(generator.sampling)
    generator.card = checkpoint.get("card")
    return generator.eval()


def has_average(checkpoint: dict[str, Any]) -> bool:
    """Whether the run kept an average of its generator's weights."""
    return any(name.startswith(PREFIXES["ema"]) for name in checkpoint["state_dict"])
