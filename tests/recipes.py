"""Models made from conf/, and a few steps of training on tensors."""

from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from condgen.conditions import ClassLabel, Condition
from condgen.config.build import conf_dir
from condgen.run.recipe import build_training
from condgen.spaces import Images, Space

DIGITS = ClassLabel([str(digit) for digit in range(10)])
"""The condition of MNIST."""


def make_model(
    *overrides: str,
    shape: tuple[int, ...] = (1, 28, 28),
    condition: Condition = DIGITS,
    seed: int = 0,
    space: Space | None = None,
) -> Any:
    """Build the model that ``overrides`` choose in conf/, of images of a ``shape`` if no other space is given."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", list(overrides))
    recipe = {key: OmegaConf.to_container(tree[key], resolve=True) for key in ("model", "loss")}
    torch.manual_seed(seed)
    return build_training(recipe | {"condition": condition.config(), "space": (space or Images(shape)).config(), "seed": seed})


def batches(count: int, size: int = 4, shape: tuple[int, ...] = (1, 28, 28), classes: int = 10) -> list[tuple[Tensor, Tensor]]:
    """Draw batches of images in [-1, 1] with labels."""
    stream = torch.Generator().manual_seed(0)
    return [
        (torch.rand(size, *shape, generator=stream) * 2 - 1, torch.randint(classes, (size,), generator=stream))
        for _ in range(count)
    ]


def fit(
    model: Any, data: list[tuple[Tensor, Tensor]], val: list[tuple[Tensor, Tensor]] | None = None, **options: Any
) -> L.Trainer:
    """Train on ``data`` once, in order, with nothing switched on."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 1, "log_every_n_steps": 100} | options
    trainer = L.Trainer(accelerator="cpu", devices=1, num_sanity_val_steps=0, **quiet, **options)
    trainer.fit(model, DataLoader(data, batch_size=None), DataLoader(val, batch_size=None) if val else None)
    return trainer


def weights(module: torch.nn.Module) -> list[Tensor]:
    """Copy the parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
