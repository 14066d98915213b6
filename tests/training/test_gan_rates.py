"""Clipping of gradients and decay of learning rates, for both players."""

from typing import Any

import pytest
import torch
from recipes import batches, fit, make_model

from condgen.errors import CondgenError
from condgen.training.schedules import Cosine, Linear

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LINEAR = "model.decay={_target_: condgen.training.schedules.Linear, start: 0.25, end: 0.1}"


def test_clipping_bounds_both_players():
    free, clipped = make_model("model=cgan_mlp"), make_model("model=cgan_mlp", "model.gradient_clip=0.01")
    for model in (free, clipped):
        fit(model, batches(1))
    for name in ("gradient_norm_g", "gradient_norm_d"):
        assert free.vitals()[name] > 0.02 and clipped.vitals()[name].item() == pytest.approx(0.01, rel=1e-3)


def test_schedules():
    linear, cosine = Linear(start=0.5, end=0.2), Cosine()
    assert [linear(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.6, 0.2])
    assert [cosine(t) for t in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])
    for given in ({"start": 1.0}, {"start": -0.1}, {"end": 2.0}):
        with pytest.raises(CondgenError, match=r"model\.decay"):
            Linear(**given)


@pytest.mark.parametrize(
    "options, length", [({"max_epochs": 2}, 8), ({"max_epochs": -1, "max_steps": 3}, 6), ({"max_epochs": 2, "max_steps": 2}, 4)]
)
def test_both_rates_fall_until_the_end(options, length):
    """Two D steps for one of G; the end is the first of the two that are asked for."""
    model = make_model("model=cgan_mlp", "model.discriminator_steps=2", LINEAR, "model.discriminator_optimizer.lr=4e-4")
    seen = []
    step = model.discriminator_step

    def note(*arguments: torch.Tensor) -> Any:
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in model.optimizers()])
        return step(*arguments)

    model.discriminator_step = note
    fit(model, batches(4), **options)
    factors = [0.1 + 0.9 * (1 - max(0, t / length - 0.25) / 0.75) for t in range(length)]
    assert seen == [pytest.approx([2e-4 * factor, 4e-4 * factor]) for factor in factors]


def test_decay_without_an_end_is_refused():
    with pytest.raises(CondgenError, match=r"model\.decay .* trainer\.max_epochs or trainer\.max_steps"):
        fit(make_model("model=cgan_mlp", LINEAR), batches(1), max_epochs=-1)
