"""Train each loss with each way of conditioning on the ring of 8 Gaussians, and write what they learned as docs/ring.md.

    OMP_NUM_THREADS=1 uv run python scripts/ring_matrix.py --out docs/ring.md
    OMP_NUM_THREADS=1 uv run python scripts/ring_matrix.py --losses hinge bce --seeds 0     # prints a part of it

tests/test_learning.py trains some of these, with the settings that stand here.
"""

import argparse
import datetime
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from condgen.config import conf_dir
from condgen.metrics.ring import WITHIN, Verdict, examine
from condgen.train import Run, assemble

QUIET = ("evaluation", "progress", "samples", "diagnosis", "interrupt", "checkpoint")
BASE = [
    "experiment=none",
    "data=ring",
    "model=gan_points",
    "data.batch_size=256",
    "trainer=cpu",
    "trainer.max_epochs=-1",
    "logger=none",
    "run.files=false",
    *(f"callbacks.{name}=null" for name in QUIET),
]
UPDATES = 1000
ONE_HOT = "{_target_: condgen.conditions.OneHot, _partial_: true}"
EMBEDDING = "{_target_: condgen.conditions.LearnedEmbedding, _partial_: true, width: 8}"

LOSSES = {
    "bce": [],
    "minimax": [],
    "lsgan": [],
    "hinge": [],
    "wasserstein": ["regularizer=gp", "model.regularizers.gp.weight=0.1"],
    "relativistic": [],
}
"""Losses, and what each needs beside it."""

CONDITIONINGS = {
    "projection": [],
    "one-hot": ["model.discriminator.projection=false", f"model.discriminator.embedding={ONE_HOT}"],
    "embedding": ["model.discriminator.projection=false", f"model.discriminator.embedding={EMBEDDING}"],
}
"""Ways in which the condition reaches the discriminator; the generator has it beside its noise."""


def learn(loss: str, conditioning: str, *overrides: str, seed: int = 0, shuffled: bool = False) -> tuple[Verdict, Run]:
    """Train for `UPDATES` updates and examine what was learned.

    Args:
        loss: one of `LOSSES`.
        conditioning: one of `CONDITIONINGS`.
        overrides: what else is changed, as on a command line.
        seed: decides the training; the ring is always the same.
        shuffled: give the points each other's labels, so that there is nothing to learn about classes.
    """
    chosen = [f"loss={loss}", f"seed={seed}", f"trainer.max_steps={UPDATES}", *LOSSES[loss], *CONDITIONINGS[conditioning]]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", [*BASE, "run.name=ring", "run.dir=.", *chosen, *overrides])
    config: Any = OmegaConf.to_container(tree, resolve=True)
    run = assemble(config, Path())
    if shuffled:
        labels = run.data.train.table.labels
        labels[:] = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        run.trainer.fit(run.model, datamodule=run.data)
    return examine(run.model, run.data.source), run
