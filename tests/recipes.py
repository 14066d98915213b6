"""Models made from conf/, a few steps of training on tensors, and runs that go on from a checkpoint."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from condgen.conditions import ClassLabel, Condition
from condgen.config.folder import conf_dir
from condgen.config.validate import check_group
from condgen.run.recipe import build_training
from condgen.spaces import Images, Space

DIGITS = ClassLabel([str(digit) for digit in range(10)])
"""The condition of MNIST."""
Data = list[tuple[Tensor, Tensor]]


@cache
def chosen(*groups: str) -> DictConfig:
    """Compose what choices in the groups of conf/ give; Hydra takes a third of a second for it, so each is composed once."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(groups))


def composed(*overrides: str) -> DictConfig:
    """Compose conf/ as the command line would, without a recipe unless ``experiment=`` names one."""
    groups = [o for o in overrides if (conf_dir() / o.partition("=")[0]).is_dir()]
    if not any(group.startswith("experiment=") for group in groups):
        groups.append("experiment=none")
    tree = deepcopy(chosen(*groups))
    values = OverridesParser.create().parse_overrides([o for o in overrides if o not in groups])
    ConfigLoaderImpl._apply_overrides_to_config(values, tree)
    return tree


SMALL_LANGUAGE = tuple(f"model.generator.network.{key}" for key in ("width=16", "layers=1", "heads=2"))


def make_model(
    *overrides: str,
    shape: tuple[int, ...] = (1, 28, 28),
    condition: Condition = DIGITS,
    seed: int = 0,
    space: Space | None = None,
) -> Any:
    """Build the training that ``overrides`` choose in conf/, of images of a ``shape`` if no other space is given."""
    tree = composed(*overrides)
    recipe = {key: OmegaConf.to_container(tree[key], resolve=True) for key in ("model", "loss")}
    for group, node in recipe.items():
        check_group(group, node)
    torch.manual_seed(seed)
    return build_training(recipe | {"condition": condition.config(), "space": (space or Images(shape)).config(), "seed": seed})


def batches(count: int, size: int = 4, shape: tuple[int, ...] = (1, 28, 28), classes: int = 10) -> Data:
    """Draw batches of images in [-1, 1] with labels."""
    stream = torch.Generator().manual_seed(0)
    return [
        (torch.rand(size, *shape, generator=stream) * 2 - 1, torch.randint(classes, (size,), generator=stream))
        for _ in range(count)
    ]


class Batches:
    """Batches in order, from where the training stands: what `condgen.data.loader.BatchLoader` is to a run."""

    def __init__(self, model: Any, data: Data):
        self.model, self.data = model, data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.data[self.model.position[1] :])


class Save(L.Callback):
    """Write a checkpoint after batch number ``batch`` of the run."""

    def __init__(self, path: Path, batch: int):
        self.path, self.batch = path, batch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
        if pl_module.counts.batches == self.batch:
            trainer.save_checkpoint(self.path)


def fit(model: Any, data: Data, val: Data | None = None, ckpt_path: Path | None = None, **options: Any) -> L.Trainer:
    """Train on ``data`` once, in order, with nothing switched on."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 1, "log_every_n_steps": 100} | options
    trainer = L.Trainer(accelerator="cpu", devices=1, num_sanity_val_steps=0, **quiet, **options)
    validation = DataLoader(val, batch_size=None) if val else None
    trainer.fit(model, Batches(model, data), validation, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def cut_and_whole(make: Callable[[], Any], data: Data, path: Path, batch: int, **options: Any) -> tuple[Any, Any]:
    """Train two models: one without a break, one from the checkpoint that the first wrote after batch number ``batch``."""
    whole, cut = make(), make()
    fit(whole, data, callbacks=[Save(path, batch)], **options)
    torch.manual_seed(1234)  # a new process has another global state
    fit(cut, data, ckpt_path=path, **options)
    return cut, whole


def weights(module: torch.nn.Module) -> list[Tensor]:
    """Copy the parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
