"""Train each loss with each way of conditioning on the ring of 8 Gaussians, and write what they learned as docs/ring.md.

    OMP_NUM_THREADS=1 uv run python scripts/ring_matrix.py --out docs/ring.md
    OMP_NUM_THREADS=1 uv run python scripts/ring_matrix.py --losses hinge bce --seeds 0     # prints a part of it

tests/learning/test_ring_is_learned.py trains some of these, with the settings that stand here.
"""

import argparse
import datetime
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from condgen.config.folder import conf_dir
from condgen.metrics.ring import WITHIN, Verdict, examine
from condgen.run.parts import Parts
from condgen.train import assemble

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
UPDATES = 500
LONGER = 2000
"""Updates where one noise has to be spread over several modes."""
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

PLAIN = "model.discriminator.projection=false"
CONDITIONINGS = {
    "projection": [],
    "one-hot": [PLAIN, f"model.discriminator.embedding={ONE_HOT}"],
    "embedding": [PLAIN, f"model.discriminator.embedding={EMBEDDING}"],
    "acgan": [PLAIN, "auxiliary=acgan"],
    "d2dce": [PLAIN, "auxiliary=d2dce", "model.auxiliary.width=64"],
    "infogan": [
        PLAIN,
        "auxiliary=infogan",
        "condition.categories=[8]",
        "condition.continuous=0",
        f"trainer.max_steps={LONGER}",
    ],
    "none": ["condition=none", f"trainer.max_steps={LONGER}"],
}
"""Ways in which the condition reaches the discriminator; the generator has it beside its noise."""

Cells = dict[tuple[str, str], list[Verdict]]
"""What each loss and conditioning has learned, one verdict a seed."""


def learn(loss: str, conditioning: str, *overrides: str, seed: int = 0, shuffled: bool = False) -> tuple[Verdict, Parts]:
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
        tree = compose("train", [*BASE, "run.name=ring", "paths.output_dir=.", *chosen, *overrides])
    config: Any = OmegaConf.to_container(tree, resolve=True)
    run = assemble(config, Path(), time.monotonic(), afresh=True)
    if shuffled:
        labels = run.data.train.table.labels
        labels[:] = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        run.trainer.fit(run.model, datamodule=run.data)
    return examine(run.model.eval_generator, run.data.source), run


def main() -> None:
    """Train all that is asked for, and write or print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--conditionings", nargs="+", choices=CONDITIONINGS, default=list(CONDITIONINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="the page to write; without it, it is printed")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    start = time.monotonic()
    found: Cells = {}
    for conditioning in options.conditionings:
        for loss in options.losses:
            cell = [learn(loss, conditioning, seed=seed)[0] for seed in options.seeds]
            found[loss, conditioning] = cell
            print(f"{loss:14} {conditioning:12}", *map(figures, cell), sep="   ", file=sys.stderr, flush=True)
    text = page(found, options.losses, options.conditionings, options.seeds, (time.monotonic() - start) / 60)
    if options.out:
        options.out.write_text(text)
    else:
        print(text)


def figures(verdict: Verdict) -> str:
    """Return a verdict in one line."""
    return f"{100 * verdict.within:.1f} % {verdict.covered}/{verdict.modes} {verdict.spread:.2f}"


def worst(cell: list[Verdict]) -> str:
    """Return the worst of several seeds, each figure by itself, bold where a seed failed."""
    within, covered, spread = (min(getattr(v, name) for v in cell) for name in ("within", "covered", "spread"))
    text = f"{100 * within:.1f} % · {covered} · {spread:.2f}"
    return text if all(verdict.passed for verdict in cell) else f"**{text}**"


def page(found: Cells, losses: list[str], conditionings: list[str], seeds: list[int], minutes: float) -> str:
    """Write the page of docs/."""
    passed = sum(verdict.passed for cell in found.values() for verdict in cell)
    total = len(found) * len(seeds)
    rows = [[name, *(worst(found[loss, name]) for loss in losses)] for name in conditionings]
    lines = [["", *losses], ["---"] * (1 + len(losses)), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    options = f"--seeds {' '.join(map(str, seeds))} --out docs/ring.md"
    return f"""# What each loss and each way of conditioning learns on the ring

`data=ring`: 8 Gaussians in the plane, the class decides the mode. `model=gan_points`, {UPDATES} updates of batches of 256
({LONGER} under `infogan` and `none`, where no label helps), every loss and conditioning with the same networks and rates. Each
cell has the worst of {len(seeds)} seeds ({", ".join(map(str, seeds))}): the share of samples within three standard deviations
of a mode of the asked-for class · the number of modes covered, of 8 · the standard deviation around the modes, in units of the
data's own.

{table}

Bold: at least one seed failed the check, {100 * WITHIN:.0f} % and every mode covered; {passed} of {total} runs passed it. A
perfect generator has 98.9 %, 8 and 0.97; chance is 12.4 %. Under `none` any mode will do: without a condition one connected
noise has to be torn into eight modes, and samples lie on the bridges between them. Under `infogan` no label is shown at all:
the asked-for class is the mode that a value of its one code of eight values was found to stand for, one to one.
`wasserstein` has its gradient penalty (weight 0.1: distances on the ring are small), the other losses have no regularizer.

Measured on {datetime.date.today():%Y-%m-%d} with {os.cpu_count()} CPU cores at one thread, in {minutes:.0f} minutes:

    OMP_NUM_THREADS=1 uv run python scripts/ring_matrix.py {options}
"""


if __name__ == "__main__":
    main()
