"""Annotations for parts of the configuration that condgen does not build or did not write."""

import os
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from annotated_types import Ge, Le
from pydantic import Field

from condgen.types import BelowOne, Count, Name, NonNegative, Positive, PositiveInt, Says, Share

Threads = Annotated[int, Ge(1), Le(max(64, 4 * (os.cpu_count() or 1)))]
"""Many more than there are cores make a run slower, and very many end it: each has a stack of its own."""
Limited = Annotated[Count | Share, Says("a whole number of batches, or a share of them in 0..1")]
Limit = Annotated[Literal[-1] | PositiveInt, Says("a whole number of at least 1, -1 for no limit")]
Objective = Annotated[str | Sequence[str], Says("the name of a metric or a list of names")]


class Run(TypedDict, total=False):
    """The section ``run``."""

    name: Name
    files: bool
    threads: Threads | None
    finetune: str | None
    budget_minutes: Positive | None
    scale_rates: Literal["none", "linear", "sqrt"]
    scale_from: PositiveInt | None
    objective: Objective | None


class Extras(TypedDict, total=False):
    """The section ``extras``."""

    print_config: bool
    ignore_warnings: bool


class Paths(TypedDict, total=False):
    """The section ``paths``."""

    data_dir: str | None
    log_dir: str
    output_dir: str


class Trainer(TypedDict, total=False):
    """What Lightning's own annotations of its trainer leave open."""

    devices: Annotated[
        Literal["auto", -1] | PositiveInt | Sequence[Count] | Annotated[str, Field(pattern=r"^\d+(,\d+)*,?$")],
        Says("auto, a whole number of at least 1 or a list of indices"),
    ]
    num_nodes: Literal["auto"] | PositiveInt
    max_epochs: Limit | None
    max_steps: Limit
    min_epochs: Count | None
    min_steps: Count | None
    precision: Annotated[
        Literal["auto", "16-mixed", "16-true", "16", 16, "32-true", "32", 32, "64-true", "64", 64]
        | Literal["bf16-mixed", "bf16-true", "bf16"]
        | None,
        Says("auto, 32-true, 64-true, bf16-mixed, bf16-true, 16-mixed or 16-true"),
    ]
    log_every_n_steps: Count | None
    check_val_every_n_epoch: PositiveInt | None
    limit_train_batches: Limited | None
    limit_val_batches: Limited | None
    limit_test_batches: Limited | None
    overfit_batches: Limited
    fast_dev_run: bool | Count
    gradient_clip_val: NonNegative | None
    accumulate_grad_batches: PositiveInt


class Optimizer(TypedDict, total=False):
    """What torch's optimizers leave open, or find out when training starts."""

    lr: NonNegative  # 0 holds a network still
    betas: tuple[BelowOne, BelowOne]
    eps: NonNegative
    weight_decay: NonNegative
    momentum: NonNegative
    alpha: BelowOne


SECTIONS: dict[str, type] = {"run": Run, "extras": Extras, "paths": Paths}
"""Sections that are no object and hold none."""
STRICTER: dict[str, type] = {"torch.optim.": Optimizer, "lightning.pytorch.trainer.": Trainer}
"""By the start of a class's module: which annotations take the place of its own."""
