"""Flow matching: a known distribution is recovered, per condition; solvers have their order; guidance is the formula.

What it shares with the other families of one network is in test_single_network.py.
"""

import os
import signal
from typing import Any

import pytest
import torch
from command import condgen
from recipes import batches, fit, make_model
from same_run import assert_same, outcome
from scipy import stats

from condgen.callbacks.interrupt import Interrupt
from condgen.conditions import ClassLabel, Inpaint, NoCondition
from condgen.errors import CondgenError
from condgen.generators.ode import integrate
from condgen.randomness import generator
from condgen.spaces import Points
from condgen.training.times import LogitNormal, Uniform, stratified

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TWO = ClassLabel(["a", "b"])
# Each class is a mixture of two Gaussians in the plane: weights, centres, standard deviation.
SHARES = torch.tensor([[0.5, 0.5], [0.8, 0.2]])
CENTRES = torch.tensor([[[-0.5, 0.4], [0.5, 0.4]], [[0.0, -0.6], [0.6, 0.0]]])
SIGMA = 0.08


def small(*overrides: str, **options: Any) -> Any:
    """A fully connected velocity field on images."""
    return make_model("model=flow_points", *overrides, **options)


def mixture(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points (count, 2) and their classes."""
    stream = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=stream)
    mode = (torch.rand(count, generator=stream) > SHARES[label, 0]).long()
    return CENTRES[label, mode] + SIGMA * torch.randn(count, 2, generator=stream), label


def distance(samples: torch.Tensor, label: int) -> float:
    """Return the largest distance of an empirical CDF from the known one, of the coordinates and of their sum."""

    def cdf(direction: torch.Tensor) -> Any:
        centres, deviation = (CENTRES[label] @ direction).tolist(), SIGMA * direction.norm().item()
        shares = SHARES[label].tolist()
        return lambda x: sum(s * stats.norm.cdf(x, c, deviation) for s, c in zip(shares, centres, strict=True))

    directions = (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]))
    return max(float(stats.kstest((samples @ d).numpy(), cdf(d)).statistic) for d in directions)


@pytest.fixture(scope="module")
def learned() -> Any:
    """A velocity field that was trained on the mixtures."""
    model = small("model.generator.condition_dropout=0.2", condition=TWO, space=Points())
    fit(model, [mixture(512, seed) for seed in range(1200)])
    return model.eval_generator


# --- mathematics ---


@pytest.mark.slow
def test_a_conditional_mixture_is_recovered(learned):
    for label in (0, 1):
        samples = learned.sample(label, 3000, seed=1)
        assert distance(samples, label) < 0.07  # by chance alone: 0.025 in 19 of 20 draws
        assert distance(samples, 1 - label) > 0.3


def test_without_its_condition_it_draws_from_all(learned):
    """The null's field carries noise to the mixture of both classes."""
    z = learned.latents(3000, generator(0, "null"))
    asked, dropped = torch.zeros(3000, dtype=torch.int64), torch.ones(3000, dtype=torch.bool)
    with torch.inference_mode():
        samples = integrate(lambda x, t: learned.network(x, torch.full((3000,), t), asked, dropped), z, 20, "heun")
    nearest = torch.cdist(samples, CENTRES.flatten(0, 1)).argmin(1)
    shares = torch.bincount(nearest, minlength=4) / 3000
    assert (shares - SHARES.flatten() / 2).abs().max() < 0.05


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_solvers_converge_with_their_order(solver, order):
    """dx/dt = 2 t x + exp(t^2) has the solution x(t) = exp(t^2) (x(0) + t)."""
    start = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    exact = (start + 1) * torch.e

    def error(steps):
        found = integrate(lambda x, t: 2 * t * x + torch.tensor(t * t, dtype=torch.float64).exp(), start, steps, solver)
        return (found - exact)[1:].abs().max()

    assert torch.log2(error(64) / error(128)).item() == pytest.approx(order, abs=0.1)


def test_times_have_the_distributions_they_say():
    u = stratified(4000, torch.Generator().manual_seed(0))
    assert torch.equal((u * 4000).floor().sort().values, torch.arange(4000.0))  # one in each part
    assert not torch.equal(u, u.sort().values)
    assert torch.equal(Uniform()(u), u)
    t = LogitNormal(mean=-0.5, deviation=0.7)(u)
    assert stats.kstest(torch.logit(t.double()).numpy(), stats.norm(-0.5, 0.7).cdf).statistic < 0.001


def test_the_loss_is_that_of_the_formula():
    model = small()
    x, condition = batches(1)[0]
    noise, u = torch.randn(4, 1, 28, 28), torch.tensor([0.1, 0.4, 0.5, 0.9])
    chance = torch.tensor([0.05, 0.2, 0.3, 0.01])
    losses = model.path_losses(model.generator, (x, condition, noise, u, chance), LogitNormal(), 0.1)
    for i, dropped in enumerate([True, False, False, True]):
        t = torch.sigmoid(torch.special.ndtri(u[i]))
        on_path = (1 - t) * noise[i] + t * x[i]
        v = model.generator.network(on_path[None], t[None], condition[i : i + 1], torch.tensor([dropped]))[0]
        torch.testing.assert_close(losses[i], (v - (x[i] - noise[i])).square().mean(), rtol=1e-4, atol=1e-5)


# --- guidance ---


def test_guidance_of_one_is_no_guidance(learned):
    assert "guidance" not in learned.sampling
    plain = learned.sample(seed=2, count=20)
    learned.set_sampling(guidance=3.0)
    assert learned.sampling["guidance"] == 3.0 and not torch.equal(learned.sample(seed=2, count=20), plain)
    learned.set_sampling(guidance=1.0)
    assert torch.equal(learned.sample(seed=2, count=20), plain) and "guidance" not in learned.sampling


def test_guidance_goes_from_the_null_through_what_is_asked_for(learned):
    x, t, condition = torch.randn(6, 2), torch.full((6,), 0.3), torch.tensor([0, 1] * 3)
    no, yes = torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)
    asked, null = learned.network(x, t, condition, no), learned.network(x, t, condition, yes)
    for scale in (0.5, 2.5):
        learned.set_sampling(guidance=scale)
        torch.testing.assert_close(learned.guided(x, t, condition), null + scale * (asked - null), rtol=1e-4, atol=1e-5)
    learned.set_sampling()
    assert torch.equal(learned.guided(x, t, condition), asked) and not torch.allclose(asked, null)


@pytest.mark.parametrize("model", ["flow_points", "flow_matching"])
def test_what_is_dropped_is_not_seen(model):
    network = make_model(f"model={model}", "model.generator.network.signal=16").generator.network
    for parameter in network.parameters():  # the U-Net's last layers start at zero
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    x, t = torch.randn(1, 1, 28, 28).expand(2, -1, -1, -1), torch.full((2,), 0.5)
    one, other = network(x, t, torch.tensor([3, 8]), torch.tensor([True, True]))
    torch.testing.assert_close(one, other)
    one, other = network(x, t, torch.tensor([3, 8]), torch.tensor([False, False]))
    assert (one - other).abs().max() > 1e-3
    one, other = network(x, t, torch.tensor([3, 3]), torch.tensor([False, True]))
    assert (one - other).abs().max() > 1e-3


# --- conditions that are images ---


@pytest.fixture(scope="module")
def filler() -> Any:
    """A small U-Net that learned to fill holes in images of one shade."""
    condition, shape = Inpaint((1, 8, 8)), (1, 8, 8)
    settings = (
        "model.generator.network.widths=[16,16]",
        "model.generator.network.signal=16",
        "model.generator.condition_dropout=0.2",
        "model.optimizer.lr=5e-3",
    )
    model = make_model("model=flow_matching", *settings, shape=shape, condition=condition)
    stream = torch.Generator().manual_seed(0)
    data = []
    for _ in range(150):
        x = (torch.rand(64, 1, 1, 1, generator=stream) * 1.6 - 0.8).expand(-1, *shape)
        data.append((x, condition.make(x, torch.rand(64, 2, generator=stream))))
    fit(model, data)
    return model.eval_generator


def test_holes_are_filled_from_what_is_known_and_that_stays_exactly(filler):
    shades = torch.tensor([-0.7, -0.2, 0.3, 0.7]).repeat_interleave(8)
    x = shades.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    condition = filler.condition.make(x, torch.rand(32, 2, generator=torch.Generator().manual_seed(1)))
    known = condition[:, 1:] > 0
    for guidance in (1.0, 1.5):
        filler.set_sampling(guidance=guidance)
        samples = filler.sample(condition)
        assert torch.equal(samples[known], x[known])
        error, unknowing = ((samples - of)[~known].abs().mean() for of in (x, x.roll(8, dims=0)))
        assert error < 0.2 and unknowing > 3 * error, guidance
    filler.set_sampling()


def test_guidance_leads_away_from_any_image(filler):
    x, t = torch.randn(6, 1, 8, 8), torch.full((6,), 0.3)
    condition = filler.condition.make(torch.full((6, 1, 8, 8), 0.5), torch.rand(6, 2))
    no, yes = torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)
    asked, null = filler.network(x, t, condition, no), filler.network(x, t, condition, yes)
    filler.set_sampling(guidance=2.0)
    torch.testing.assert_close(filler.guided(x, t, condition), null + 2 * (asked - null), rtol=1e-4, atol=1e-4)
    filler.set_sampling()
    assert not torch.allclose(asked, null, atol=0.05)
    torch.testing.assert_close(null, filler.network(x, t, condition.flip(0), yes))  # it sees none


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_conditions_are_dropped_as_often_as_asked(share):
    model = small(f"model.generator.condition_dropout={share}")
    seen: list[torch.Tensor] = []
    model.generator.network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    fit(model, batches(4, size=500))
    dropped = torch.cat(seen).float()
    assert len(dropped) == 2000 and dropped.mean().item() == pytest.approx(share, abs=0.04)
    assert not share or not torch.equal(seen[0], seen[1])


# --- training ---


def test_validation_is_a_mean_over_samples_at_uniform_times_with_nothing_dropped():
    times = "model.times={_target_: condgen.training.times.LogitNormal, mean: 2.0, deviation: 0.1}"
    model = small("model.optimizer.lr=0", "model.generator.condition_dropout=0.9", times)
    (x, condition), *_ = batches(1, size=5)
    val = [(x[:4], condition[:4]), (x[4:], condition[4:])]
    found = fit(model, batches(1), val).callback_metrics["val/loss"].item()
    losses = []
    for i, batch in enumerate(val):

        def draw(of: Any, purpose: str, i: int = i, size: int = len(batch[0])) -> torch.Tensor:
            return of(size, generator(0, "validation " + purpose, i))

        losses.append(model.path_losses(model.ema.average, model.given(batch, draw), Uniform(), 0.0).detach())
    assert [len(some) for some in losses] == [4, 1] and found == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    """By the real commands: rate, average and curves go on where they stood."""
    run = ("train", "experiment=none", "model=flow_points", "data=ring", "data.source.samples=400", "trainer=cpu")
    run = (*run, "data.batch_size=16", "trainer.max_epochs=2", "trainer.log_every_n_steps=6", "model.options.warmup=15")
    assert condgen(*run, f"hydra.run.dir={tmp_path / 'whole'}", cwd=tmp_path).code == 0
    after_batch = Interrupt.on_train_batch_end

    def press(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Interrupt, "on_train_batch_end", press)
    assert condgen(*run, f"hydra.run.dir={tmp_path / 'cut'}", cwd=tmp_path).code == 130
    monkeypatch.undo()
    assert condgen("resume", tmp_path / "cut", cwd=tmp_path).code == 0
    whole = outcome(tmp_path / "whole")
    assert whole["counts"]["step"] == 34 and whole["best"]["val/loss"] > 0
    assert_same(whole, outcome(tmp_path / "cut"))


# --- sampling ---


@pytest.mark.parametrize("model", ["flow_points", "flow_matching"])
def test_samples_do_not_depend_on_how_they_are_batched(model):
    training = make_model(f"model={model}", "model.generator.steps=2", shape=(1, 8, 8))
    fit(training, batches(2, shape=(1, 8, 8)))
    field = training.eval_generator
    z, condition = field.latents(6, torch.Generator().manual_seed(0)), torch.arange(6)
    for scale in (1.0, 2.0):
        field.set_sampling(guidance=scale)
        with torch.inference_mode():
            whole = field.decode(z, condition)
            parts = [field.decode(z[rows], condition[rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)


def test_options_choose_solver_and_steps():
    field = small().generator.eval()
    calls: list[float] = []
    field.network.register_forward_pre_hook(lambda module, arguments: calls.append(arguments[1][0].item()))
    for solver, steps, times in (("euler", 2, [0, 0.5]), ("midpoint", 2, [0, 0.25, 0.5, 0.75]), ("heun", 2, [0, 0.5, 0.5])):
        calls.clear()
        field.set_sampling(solver=solver, steps=steps)
        field.sample(3)
        assert calls == times and field.sampling == {"solver": solver, "steps": steps}
    field.set_sampling()
    assert field.sampling == {"solver": "heun", "steps": 20}  # a figure says it


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["loss=bce"], "choose loss=velocity"),
        (["model.generator.solver=leapfrog"], "solver must be euler, midpoint"),
        (["model.generator.guidance=2", "model.generator.condition_dropout=0"], r"model\.generator\.condition_dropout=0"),
    ],
)
def test_what_cannot_be_is_refused(overrides, words):
    with pytest.raises(CondgenError, match=words):
        small(*overrides)


def test_nothing_to_be_guided_from_is_refused():
    field = small("condition=none", condition=NoCondition()).generator
    assert field.sample(count=3).shape == (3, 1, 28, 28)
    with pytest.raises(CondgenError, match="unconditional"):
        field.set_sampling(guidance=2.0)
    assert "guidance" not in field.sampling
    with pytest.raises(CondgenError, match="solver must be a name"):
        field.set_sampling(solver=3)
