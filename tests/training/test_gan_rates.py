"""Clipping of gradients and decay of learning rates, for both players."""

from typing import Any

import pytest
import torch
from recipes import batches, fit, make_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LINEAR = "model.options.decay={_target_: condgen.training.schedules.Linear, start: 0.25, end: 0.1}"


def test_clipping_bounds_both_players():
    free, clipped = make_model("model=cgan_mlp"), make_model("model=cgan_mlp", "model.options.gradient_clip=0.01")
    for model in (free, clipped):
        fit(model, batches(1))
    for name in ("gradient_norm_g", "gradient_norm_d"):
        assert free.statistics()[name] > 0.02 and clipped.statistics()[name].item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    "options, length", [({"max_epochs": 2}, 8), ({"max_epochs": -1, "max_steps": 3}, 6), ({"max_epochs": 2, "max_steps": 2}, 4)]
)
def test_both_rates_fall_until_the_end(options, length):
    """Two D steps for one of G; the end is the first of the two that are asked for."""
    model = make_model(
        "model=cgan_mlp", "model.alternation.discriminator_steps=2", LINEAR, "model.discriminator_optimizer.lr=4e-4"
    )
    seen = []
    update = model.update_discriminator

    def note(*arguments: torch.Tensor) -> Any:
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in model.optimizers()])
        return update(*arguments)

    model.update_discriminator = note
    fit(model, batches(4), **options)
    factors = [0.1 + 0.9 * (1 - max(0, t / length - 0.25) / 0.75) for t in range(length)]
    assert seen == [pytest.approx([2e-4 * factor, 4e-4 * factor]) for factor in factors]
