"""Glow: pixels come back from their noise, a known distribution is recovered with its bits, temperature is what it says."""

import math
import os
import signal
from typing import Any

import pytest
import torch
from command import condgen
from condgen.training.sampling import truncated
from recipes import batches, fit, make_model, same, weights
from test_resume import assert_same, outcome

from condgen.callbacks.interrupt import Interrupt
from condgen.conditions import ClassLabel, Codes, NoCondition
from condgen.errors import CondgenError
from condgen.nets.invertible import ActNorm
from condgen.randomness import generator
from condgen.spaces import Images, Points, to_float, to_uint8

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TINY = ("model=glow", "model.network.steps=[1,2]", "model.network.fine.width=8", "model.network.coarse.width=16")
TWO = ClassLabel(["a", "b"])
MEANS, SIGMA = (70.0, 170.0), 20.0
"""Of the grey values of two classes, normal and independent; their deviation."""
ENTROPY = math.log2(SIGMA * math.sqrt(2 * math.pi * math.e))
"""Bits per pixel, but for what rounding to 256 levels changes: (1 / SIGMA)^2 / 24 nats, 1e-4 of a bit."""


def small(*overrides: str, **options: Any) -> Any:
    """A small flow."""
    return make_model(*TINY, *overrides, **options)


def grey(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images (count, 1, 8, 8) of both classes, and their classes."""
    stream = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=stream)
    levels = torch.tensor(MEANS)[label].view(-1, 1, 1, 1) + SIGMA * torch.randn(count, 1, 8, 8, generator=stream)
    return to_float(levels.round().clamp(0, 255)), label


@pytest.fixture(scope="module")
def learned() -> Any:
    """A flow that was trained on the grey values."""
    model = small(
        "loss.margin=0", "model.warmup=20", "model.ema=0.98", "model.temperature=1", condition=TWO, space=Images((1, 8, 8))
    )
    fit(model, [grey(256, seed) for seed in range(200)])
    return model.eval()


# --- mathematics ---


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"shape": (3, 32, 32)}, {"condition": NoCondition()}, {"condition": Codes(categories=[10], continuous=2)}],
    ids=["class", "colour", "none", "codes"],
)
def test_images_come_back_from_their_noise(steps, options):
    model = small(**options)
    data = batches(3, 4, options.get("shape", (1, 28, 28)))
    data = [(x, model.condition.from_data(label)) for x, label in data]
    if steps:
        fit(model, data[:steps])
    network, (x, condition) = model.network.double(), data[0]
    condition = condition.double() if condition.is_floating_point() else condition
    y, _ = model.loss.dequantize(x, torch.rand(x.shape, dtype=torch.float64))
    z, _ = network(y, condition)
    assert z.shape == (4, x[0].numel())
    assert (network.inverse(z, condition) - y).abs().max() < 1e-5
    model.averaged = False
    assert torch.equal(to_uint8(model.decode(z, condition)), to_uint8(x))


def test_a_known_distribution_has_its_bits(learned):
    """The bits of fresh samples are the entropy, within the error of their mean (0.7 bits / sqrt(8 * 8 * 4000))."""
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        once, often = (learned.likelihood(*grey(4000, 999), stream, draws) for draws in (1, 8))
    found = once["bits_per_dim"]
    assert found.shape == (4000,)
    assert torch.allclose(once["log_likelihood"], -found * 64 * math.log(2))
    assert ENTROPY - 0.03 < often["bits_per_dim"].mean() <= found.mean() + 1e-4  # nearer to the exact value, from above
    assert found.mean().item() == pytest.approx(ENTROPY, abs=0.03)
    x, label = grey(500, 998)
    with torch.no_grad():
        wrong = learned.likelihood(x, 1 - label, stream, 1)["bits_per_dim"]
    assert wrong.mean() > ENTROPY + 2  # asked for the other class


def test_samples_have_the_distribution_and_temperature_narrows_it(learned):
    for temperature in (1.0, 0.5):
        learned.tune(temperature=temperature)
        for label, mean in enumerate(MEANS):
            levels = to_uint8(learned.sample(label, 500, seed=1)).float()
            assert levels.mean().item() == pytest.approx(mean, abs=2)
            assert levels.std().item() == pytest.approx(temperature * SIGMA, rel=0.1)
    learned.tune()
    assert learned.knobs == {"temperature": 1.0}  # a figure says it


def test_the_loss_is_that_of_the_formula():
    model = small("loss.margin=0.05")
    fit(model, batches(1))
    x, condition = batches(1)[0]
    u = torch.rand(4, 1, 28, 28)
    w = (to_uint8(x) + u) / 256
    y = torch.logit(0.05 + 0.9 * w)
    z, log_determinant = model.network(y, condition)
    slope = 0.9 / ((0.05 + 0.9 * w) * (0.95 - 0.9 * w))
    density = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_determinant + slope.log().flatten(1).sum(1)
    nats = 784 * math.log(256) - density
    torch.testing.assert_close(model.nats(model.network, (x, condition), u), nats, rtol=1e-4, atol=1e-2)


# --- training ---


def test_training_lowers_the_loss_of_unseen_images():
    model = small("loss.margin=0", "model.warmup=5", condition=TWO, space=Images((1, 8, 8)))
    first, last = (fit(model, [grey(64, i) for i in range(count)], [grey(500, 99)]) for count in (1, 40))
    bits = [trainer.callback_metrics["val/bits_per_dim"].item() for trainer in (first, last)]
    assert bits[0] - 0.3 > bits[1] > ENTROPY - 0.05


def test_a_run_starts_from_its_first_batch_and_so_does_the_average():
    model = small("model.optimizer.lr=0")
    x, condition = batches(1, size=16)[0]
    fit(model, [(x, condition)])
    u = torch.rand(x.shape, generator=generator(0, "dequantization", 0, 0))
    again = small()
    again.network.fit(again.loss.dequantize(x, u)[0], condition)
    assert same(weights(model.network), weights(again.network)) and same(weights(model.ema.network), weights(again.network))
    assert not any(module.fresh for module in model.network.modules() if isinstance(module, ActNorm))
    fit(model, [(-x, condition)])  # a second run goes on from there
    assert same(weights(model.network), weights(again.network))


def test_the_average_follows_each_update_and_is_what_samples_come_from():
    model = small("model.ema=0.5")
    fit(model, batches(1))
    average = weights(model.ema.network)
    update = model.optimizer_step

    def watched(*arguments: Any, **options: Any) -> None:
        update(*arguments, **options)
        decay = min(0.5, (2 + model.global_step) / (11 + model.global_step))
        for mine, newest in zip(average, weights(model.network), strict=True):
            mine.lerp_(newest, 1 - decay)

    model.optimizer_step = watched
    fit(model, batches(4))
    for mine, kept in zip(average, weights(model.ema.network), strict=True):
        torch.testing.assert_close(kept, mine)
    assert model.weights == "ema" and not same(weights(model.ema.network), weights(model.network))
    drawn = model.sample(3, 2)
    model.averaged = False
    assert model.weights == "raw" and not torch.equal(model.sample(3, 2), drawn)


def test_the_rate_grows_then_falls_until_the_end():
    model, seen = small("model.warmup=4", "model.optimizer.lr=1e-3"), []
    step = model.training_step

    def watched(*arguments: Any) -> Any:
        loss = step(*arguments)
        seen.append(model.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    model.training_step = watched
    fit(model, batches(4), max_epochs=2, max_steps=6)
    growth = [0.25, 0.5, 0.75, 1, 1, 1]
    assert seen == pytest.approx([1e-3 * g * (1 + math.cos(math.pi * i / 6)) / 2 for i, g in enumerate(growth)])


def test_clipping_bounds_the_update():
    for bound in (None, 1e-3):
        clip = f"model.gradient_clip={'null' if bound is None else bound}"
        plain = ("model.optimizer._target_=torch.optim.SGD", "~model.optimizer.betas", "model.decay=null", "model.warmup=0")
        model = small(*plain, clip)
        (x, condition), *_ = data = batches(1)
        u = torch.rand(x.shape, generator=generator(0, "dequantization", 0, 0))
        model.network.fit(model.loss.dequantize(x, u)[0], condition)
        before = weights(model.network)
        fit(model, data)
        moved = torch.stack([(a - b).norm() for a, b in zip(weights(model.network), before, strict=True)]).norm() / 2e-3
        assert moved > 1e-2 if bound is None else moved.item() == pytest.approx(bound, rel=1e-2)


def test_validation_is_a_mean_over_samples_with_the_same_noise_in_every_epoch():
    model = small("model.optimizer.lr=0")
    (x, condition), *_ = batches(1, size=5)
    val = [(x[:4], condition[:4]), (x[4:], condition[4:])]
    first, second = (fit(model, batches(1), val).callback_metrics["val/loss"].item() for _ in range(2))
    assert first == second
    nats = []
    for i, batch in enumerate(val):
        u = torch.rand(batch[0].shape, generator=generator(0, "validation", i))
        nats.append(model.nats(model.ema.network, batch, u).detach())
    assert torch.cat(nats).mean().item() == pytest.approx(first, rel=1e-6)
    bits = model.trainer.callback_metrics["val/bits_per_dim"].item()
    assert bits == pytest.approx(first / 784 / math.log(2), rel=1e-6)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    run = ("train", "experiment=none", *TINY, "data.image_size=8", "trainer=cpu", "trainer.limit_train_batches=6")
    run = (*run, "data.batch_size=16", "trainer.max_epochs=2", "trainer.limit_val_batches=2", "callbacks.evaluation=null")
    assert condgen(*run, f"hydra.run.dir={tmp_path / 'whole'}", cwd=tmp_path).code == 0
    after_batch = Interrupt.on_train_batch_end

    def press(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Interrupt, "on_train_batch_end", press)
    assert condgen(*run, f"hydra.run.dir={tmp_path / 'cut'}", cwd=tmp_path).code == 130
    monkeypatch.undo()
    assert condgen("resume", tmp_path / "cut", cwd=tmp_path).code == 0
    whole = outcome(tmp_path / "whole")
    assert whole["step"] == 12 and whole["best"]["val/loss"] > 0
    assert_same(whole, outcome(tmp_path / "cut"))


# --- sampling ---


def test_samples_do_not_depend_on_how_they_are_batched():
    model = small()
    fit(model, batches(2))
    z, condition = model.eval().prior(6, torch.Generator().manual_seed(0)), torch.arange(6)
    assert z.shape == (6, 784)
    with torch.inference_mode():
        whole = model.wanted.inverse(z, condition)
        parts = [model.wanted.inverse(z[rows], condition[rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


def test_temperature_and_truncation_are_factor_and_bound_of_the_noise():
    model = small().eval()
    z = model.prior(3, generator(5, "sample", 0))
    condition = torch.tensor([3, 3, 3])
    assert model.knobs == {"temperature": 0.7}
    assert torch.equal(model.sample(3, 3, seed=5), model.decode(0.7 * z, condition))
    model.tune(temperature=0.2)
    assert torch.equal(model.sample(3, 3, seed=5), model.decode(0.2 * z, condition))
    model.tune(temperature=1, truncation=0.5)
    assert torch.equal(model.sample(3, 3, seed=5), model.decode(truncated(z, 0.5), condition))
    with pytest.raises(CondgenError, match="no guidance"):
        model.tune(guidance=2.0)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["loss=bce"], "choose loss=likelihood"),
        (["loss.margin=0.5"], "loss.margin"),
        (["model.ema=1"], r"\[0, 1\)"),
        (["model.warmup=-1"], "warmup must be at least 0"),
        (["model.gradient_clip=0"], "gradient_clip must be positive"),
        (["model.temperature=0"], "temperature must be a positive number"),
        (["model.network.steps=[1,0]"], "at least one step"),
        (["model.optimizer.lr=-1"], "model.optimizer"),
    ],
)
def test_what_cannot_be_is_refused(overrides, words):
    with pytest.raises(CondgenError, match=words):
        small(*overrides)


def test_points_are_refused():
    with pytest.raises(CondgenError, match="set model=flow_points"):
        small(space=Points())
