"""Glow: pixels come back from their noise, a known distribution is recovered with its bits, temperature is what it says.

What it shares with the other families of one network is in test_single_network.py, its layers are in nets/test_glow_network.py.
"""

import math
from typing import Any

import pytest
import torch
from recipes import batches, fit, make_model, same, weights

from condgen.conditions import ClassLabel, Codes, NoCondition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.generators.sampling import truncated
from condgen.nets.invertible import ActNorm
from condgen.randomness import generator
from condgen.spaces import Points, to_float, to_uint8

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TINY = ("steps=[1,2]", "fine.width=8", "coarse.width=16")
SHAPE = (1, 8, 8)
TWO = ClassLabel(["a", "b"])
SIDE, MEANS, SIGMA = 4, (70.0, 170.0), 20.0
"""Of images of independent grey values, normal under each of two classes: side, means, deviation."""
ENTROPY = math.log2(SIGMA * math.sqrt(2 * math.pi * math.e))
"""Bits per pixel, but for what rounding to 256 levels changes: (1 / SIGMA)^2 / 24 nats, 1e-4 of a bit."""


def small(*overrides: str, shape: tuple[int, ...] = SHAPE, **options: Any) -> Any:
    """A small flow."""
    narrow = (f"model.generator.network.{key}" for key in TINY)
    return make_model("model=glow", *narrow, *overrides, shape=shape, **options)


def grey(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images (count, 1, SIDE, SIDE) of both classes, and their classes."""
    stream = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=stream)
    levels = torch.tensor(MEANS)[label].view(-1, 1, 1, 1) + SIGMA * torch.randn(count, 1, SIDE, SIDE, generator=stream)
    return to_float(levels.round().clamp(0, 255)), label


@pytest.fixture(scope="module")
def learned() -> Generator:
    """A flow that was trained on the grey values."""
    options = ("loss.margin=0", "model.options.warmup=20", "model.options.ema=0.98", "model.generator.temperature=1")
    model = small(*options, condition=TWO, shape=(1, SIDE, SIDE))
    fit(model, [grey(256, seed) for seed in range(200)])
    return model.eval_generator


# --- mathematics ---


@pytest.mark.parametrize(
    "steps, options",
    [(0, {}), (2, {"shape": (3, 8, 16)}), (2, {"condition": NoCondition()}), (2, {"condition": Codes([10], continuous=2)})],
    ids=["new", "colour", "none", "codes"],
)
def test_images_come_back_from_their_noise(steps, options):
    model = small(**options)
    data = batches(3, 4, options.get("shape", SHAPE))
    data = [(x, model.condition.from_data(label)) for x, label in data]
    if steps:
        fit(model, data[:steps])
    flow, (x, condition) = model.generator.double(), data[0]
    condition = condition.double() if condition.is_floating_point() else condition
    y, _ = flow.loss.dequantize(x, torch.rand(x.shape, dtype=torch.float64))
    z, _ = flow.network(y, condition)
    assert z.shape == (4, x[0].numel())
    assert (flow.network.inverse(z, condition) - y).abs().max() < 1e-5
    assert torch.equal(to_uint8(flow.decode(z, condition)), to_uint8(x))


def test_a_known_distribution_has_its_bits(learned):
    """The bits of fresh samples are the entropy, within the error of their mean (0.7 bits / sqrt(SIDE^2 * 4000) = 0.003)."""
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        once, often = (learned.likelihood(*grey(4000, 999), stream, draws) for draws in (1, 8))
    found = once["bits_per_dim"]
    assert found.shape == (4000,) and learned.density == "levels"
    assert torch.allclose(once["log_likelihood"], -found * SIDE**2 * math.log(2))
    assert ENTROPY - 0.03 < often["bits_per_dim"].mean() <= found.mean() + 1e-4  # nearer to the exact value, from above
    assert found.mean().item() == pytest.approx(ENTROPY, abs=0.03)
    x, label = grey(500, 998)
    with torch.no_grad():
        wrong = learned.likelihood(x, 1 - label, stream, 1)["bits_per_dim"]
    assert wrong.mean() > ENTROPY + 2  # asked for the other class


def test_samples_have_the_distribution_and_temperature_narrows_it(learned):
    for temperature in (1.0, 0.5):
        learned.set_sampling(temperature=temperature)
        for label, mean in enumerate(MEANS):
            levels = to_uint8(learned.sample(label, 1000, seed=1)).float()
            assert levels.mean().item() == pytest.approx(mean, abs=2)
            assert levels.std().item() == pytest.approx(temperature * SIGMA, rel=0.1)
    learned.set_sampling()
    assert learned.sampling == {"temperature": 1.0}  # a figure says it


def test_the_loss_is_that_of_the_formula():
    model = small("loss.margin=0.05")
    fit(model, batches(1, shape=SHAPE))
    x, condition = batches(1, shape=SHAPE)[0]
    u = torch.rand(4, *SHAPE)
    w = (to_uint8(x) + u) / 256
    y = torch.logit(0.05 + 0.9 * w)
    z, log_determinant = model.generator.network(y, condition)
    derivative = 0.9 / ((0.05 + 0.9 * w) * (0.95 - 0.9 * w))
    density = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_determinant + derivative.log().flatten(1).sum(1)
    nats = 64 * math.log(256) - density
    torch.testing.assert_close(model.generator.nats(x, condition, u), nats, rtol=1e-4, atol=1e-2)


# --- training ---


def test_a_run_starts_from_its_first_batch_and_so_does_the_average():
    model = small("model.optimizer.lr=0")
    x, condition = batches(1, size=16, shape=SHAPE)[0]
    fit(model, [(x, condition)])
    u = torch.rand(x.shape, generator=generator(0, "dequantization", 0, 0))
    again = small().generator
    again.network.fit(again.loss.dequantize(x, u)[0], condition)
    assert same(weights(model.generator), weights(again)) and same(weights(model.ema.average), weights(again))
    assert not any(module.fresh for module in model.generator.modules() if isinstance(module, ActNorm))
    fit(model, [(-x, condition)])  # a second run goes on from there
    assert same(weights(model.generator), weights(again))


def test_validation_is_a_mean_over_samples():
    model = small("model.optimizer.lr=0")
    (x, condition), *_ = batches(1, size=5, shape=SHAPE)
    val = [(x[:4], condition[:4]), (x[4:], condition[4:])]
    found = fit(model, batches(1, shape=SHAPE), val).callback_metrics
    nats = []
    for i, batch in enumerate(val):
        u = torch.rand(batch[0].shape, generator=generator(0, "validation", i))
        nats.append(model.ema.average.nats(*batch, u))
    expected = torch.cat(nats).mean().item()
    assert found["val/loss"].item() == pytest.approx(expected, rel=1e-6)
    assert found["val/bits_per_dim"].item() == pytest.approx(expected / 64 / math.log(2), rel=1e-6)


# --- sampling ---


def test_samples_do_not_depend_on_how_they_are_batched():
    model = small()
    fit(model, batches(2, shape=SHAPE))
    flow = model.eval_generator
    z, condition = flow.latents(6, torch.Generator().manual_seed(0)), torch.arange(6)
    assert z.shape == (6, 64)
    with torch.inference_mode():
        whole = flow.network.inverse(z, condition)
        parts = [flow.network.inverse(z[rows], condition[rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


def test_temperature_and_truncation_are_factor_and_bound_of_the_noise():
    flow = small().generator.eval()
    z = flow.latents(3, generator(5, "sample", 0))
    condition = torch.tensor([3, 3, 3])
    assert flow.sampling == {"temperature": 0.7}
    assert torch.equal(flow.sample(3, 3, seed=5), flow.decode(0.7 * z, condition))
    flow.set_sampling(temperature=0.2)
    assert torch.equal(flow.sample(3, 3, seed=5), flow.decode(0.2 * z, condition))
    flow.set_sampling(temperature=1, truncation=0.5)
    assert torch.equal(flow.sample(3, 3, seed=5), flow.decode(truncated(z, 0.5), condition))
    with pytest.raises(CondgenError, match="cannot be sampled with guidance: it has truncation, temperature"):
        flow.set_sampling(guidance=2.0)


def test_a_loss_that_is_no_likelihood_is_refused():
    with pytest.raises(CondgenError, match="choose loss=likelihood"):
        small("loss=bce")


def test_points_are_refused():
    with pytest.raises(CondgenError, match="set model=flow_points"):
        small(space=Points())
