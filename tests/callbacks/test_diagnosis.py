"""Diagnosis: the numbers against independent ones, warnings that fire when provoked and only then, and no other effect."""

import csv
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Result, condgen
from recipes import batches, fit, make_model

from condgen.callbacks.diagnosis import WARNINGS
from condgen.callbacks.interrupt import Interrupt
from condgen.losses.adversarial import BCE, LSGAN, Minimax

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUIET = ("experiment=none", "trainer=cpu", "callbacks.evaluation=null", "callbacks.samples=null", "data.batch_size=16")
STATISTICS = ("gradient_norm_g", "gradient_norm_d", "gradient_ratio", "logit_deviation")
STATISTICS = (*STATISTICS, "accuracy_real", "accuracy_fake", "relative_loss_d")
SAID = {
    "saturation": "the discriminator has won",
    "constant": "the discriminator says the same",
    "posterior_collapse": "posterior collapse",
    "class_collapse": "collapse of",
    "ignored_condition": "the condition seems to be ignored",
}
assert SAID.keys() == WARNINGS.keys()


def run(directory: Path, *overrides: object) -> Result:
    """Train a run and see it end well."""
    result = condgen("train", f"hydra.run.dir={directory}", *QUIET, *overrides, cwd=directory.parent)
    assert result.code == 0, result
    return result


def curve(directory: Path, name: str) -> dict[int, float]:
    """Read a curve: its value by update."""
    with (directory / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get(f"diagnosis/{name}")]
    assert len({row["step"] for row in rows}) == len(rows)
    return {int(row["step"]): float(row[f"diagnosis/{name}"]) for row in rows}


def said(text: str) -> list[str]:
    """Which kinds of warnings a text contains, each as often as it does."""
    return [kind for kind, beginning in SAID.items() for _ in range(text.count(beginning))]


# --- the numbers ---


@pytest.mark.parametrize("loss", [BCE(), BCE(scale=0.5), Minimax(), LSGAN()])
def test_an_undecided_logit_is_the_best_answer_to_what_may_be_either(loss):
    logit = torch.full((3,), loss.undecided, requires_grad=True)
    loss.discriminator_loss(logit, logit).backward()
    assert logit.grad.abs().max() < 1e-7


@pytest.mark.parametrize(
    "loss, logits, accuracies",
    [
        ("bce", ([1.0, 0.2, -3.0, 2.0], [-1.0, 0.4, 0.3, 0.1]), (0.75, 0.25)),
        ("lsgan", ([1.0, 0.2, -3.0, 2.0], [-1.0, 0.4, 0.3, 0.1]), (0.5, 1.0)),
    ],
)
def test_accuracy_loss_and_deviation(loss, logits, accuracies):
    model = make_model("model=cgan_mlp", f"loss={loss}")
    fit(model, batches(1))
    real, fake = map(torch.tensor, logits)
    model._logits = [(real, fake)]
    statistics = {name: value.item() for name, value in model.statistics().items()}
    assert (statistics["accuracy_real"], statistics["accuracy_fake"]) == accuracies
    assert statistics["logit_deviation"] == pytest.approx(torch.cat([real, fake]).double().std().item(), rel=1e-6)
    chance = {"bce": 2 * math.log(2), "lsgan": 0.5}[loss]
    assert statistics["relative_loss_d"] == pytest.approx(model.loss.discriminator_loss(real, fake).item() / chance, rel=1e-6)


@pytest.mark.parametrize("order", ["discriminator_first", "generator_first"])
def test_gradients_are_those_of_the_last_updates(order):
    model = make_model("model=cgan_mlp", f"model.alternation.order={order}", "model.discriminator_optimizer.lr=0")
    model.generator_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1.0)  # a step is its gradient
    before = [parameter.detach().clone() for parameter in model.generator.parameters()]
    fit(model, batches(1))
    moved = [a - b for a, b in zip(before, model.generator.parameters(), strict=True)]
    statistics = model.statistics()
    norm = math.sqrt(sum(step.double().square().sum().item() for step in moved))
    assert statistics["gradient_norm_g"].item() == pytest.approx(norm, rel=1e-3) and norm > 0
    assert statistics["gradient_ratio"].item() == pytest.approx(norm / statistics["gradient_norm_d"].item(), rel=1e-3)


def test_a_loss_without_a_boundary_has_no_accuracies():
    model = make_model("model=cgan_mlp")
    model.loss.undecided = None
    fit(model, batches(1))
    assert list(model.statistics()) == list(STATISTICS[:4])


def test_the_variance_of_the_codes():
    """Over samples, not batches: these differ in size."""
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0")
    (x, condition), *_ = batches(1, size=7)
    fit(model, batches(1), [(x[:5], condition[:5]), (x[5:], condition[5:])])
    mean, _ = model.generator.encoder(x, condition)
    torch.testing.assert_close(model.code_variance, mean.detach().double().var(0, correction=0), rtol=1e-4, atol=1e-7)


# --- the curves ---


def test_curves_of_a_gan(tmp_path: Path) -> None:
    """Three D steps for each of G: 24 batches are eight updates, of which every second is looked at, once."""
    more = (
        "model=cgan_mlp",
        "model.alternation.discriminator_steps=3",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=12",
    )
    run(tmp_path / "run", *more, "trainer.log_every_n_steps=2")
    for name in STATISTICS:
        found = curve(tmp_path / "run", name)
        assert list(found) == [2, 4, 6, 8] and all(math.isfinite(value) and value >= 0 for value in found.values())


def test_curves_of_a_vae(tmp_path: Path) -> None:
    more = ("model=cvae_mlp", "trainer.max_epochs=2", "trainer.limit_train_batches=5", "trainer.limit_val_batches=3")
    run(tmp_path / "run", *more)
    found = curve(tmp_path / "run", "active_units")
    assert list(found) == [5, 10] and all(0 <= units <= 64 for units in found.values())


# --- what it must not touch ---


@pytest.mark.parametrize("model", ["cgan_conv", pytest.param("cvae_conv", marks=pytest.mark.slow)])
def test_a_run_without_diagnosis_ends_with_the_same_weights(model: str, tmp_path: Path) -> None:
    more = (f"model={model}", "trainer.max_epochs=2", "trainer.limit_train_batches=6", "trainer.log_every_n_steps=1")
    weights = []
    for name, extra in (("on", ()), ("off", ("callbacks.diagnosis=null",))):
        run(tmp_path / name, *more, "trainer.limit_val_batches=2", *extra)
        weights.append(torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    on, off = weights
    assert on.keys() == off.keys() and all(torch.equal(on[key], off[key]) for key in on)


@pytest.mark.slow
def test_a_run_that_was_stopped_has_the_same_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped right where it looks, and in the middle of D's steps after that."""
    more = (
        "model=cgan_mlp",
        "model.alternation.discriminator_steps=3",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=24",
    )
    more = (*more, "trainer.log_every_n_steps=2", "trainer.limit_val_batches=0")
    run(tmp_path / "whole", *more)
    after_batch = Interrupt.on_train_batch_end

    def press(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 in (6, 13):
            os.kill(os.getpid(), signal.SIGINT)
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Interrupt, "on_train_batch_end", press)
    directory = tmp_path / "stopped"
    assert condgen("train", f"hydra.run.dir={directory}", *QUIET, *more, cwd=tmp_path).code == 130
    assert condgen("resume", directory, cwd=tmp_path).code == 130
    assert condgen("resume", directory, cwd=tmp_path).code == 0
    for name in STATISTICS:
        assert curve(directory, name) == curve(tmp_path / "whole", name) and len(curve(directory, name)) == 4


# --- the warnings: provoked, and not ---

LONG = ("trainer.max_epochs=-1", "trainer.max_steps=320", "trainer.log_every_n_steps=20", "callbacks.diagnosis.patience=160")


def test_a_generator_that_cannot_answer_loses(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    more = ("model=cgan_mlp", "model.generator_optimizer.lr=0", "model.discriminator_optimizer.lr=1e-3")
    result = run(directory, *more, *LONG)
    assert said(result.err) == ["saturation"] and "Give the discriminator a smaller learning rate" in result.err
    assert said((directory / "train.log").read_text()) == ["saturation"]
    resumed = condgen("resume", directory, "trainer.max_steps=520", cwd=tmp_path)  # longer than its patience
    assert resumed.code == 0 and said(resumed.err) == [], resumed


@pytest.mark.slow
def test_a_discriminator_that_says_the_same_of_everything(tmp_path: Path) -> None:
    """Its weights decay faster than they learn."""
    result = run(
        tmp_path / "run",
        "model=cgan_mlp",
        "+model.discriminator_optimizer.weight_decay=1000",
        "model.discriminator_optimizer.lr=1e-3",
        *LONG,
    )
    assert said(result.err) == ["constant"]


@pytest.mark.slow
def test_a_posterior_that_has_nothing_to_say(tmp_path: Path) -> None:
    more = ("model=cvae_mlp", "model.beta=1000", "trainer.max_epochs=4", "trainer.limit_train_batches=80")
    result = run(tmp_path / "run", *more, "trainer.limit_val_batches=5", "callbacks.diagnosis.patience=150")
    assert said(result.err) == ["posterior_collapse"] and "0 of 64" in result.err and "At update 160" in result.err


@pytest.mark.parametrize(
    "model", ["cgan_mlp", *(pytest.param(model, marks=pytest.mark.slow) for model in ("cvae_mlp", "cgan_conv"))]
)
def test_healthy_runs_are_silent(model: str, tmp_path: Path) -> None:
    """With the impatience of the provoked ones above."""
    vae = ("trainer.max_epochs=2", "trainer.limit_train_batches=160", "trainer.limit_val_batches=5")
    result = run(tmp_path / "run", f"model={model}", *LONG, *(vae if model == "cvae_mlp" else ()))
    if model == "cvae_mlp":
        assert curve(tmp_path / "run", "active_units") == {160: 64, 320: 64}
    assert said(result.err) == [] and "At update" not in result.err


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    for setting in ("patience=-1", "evaluations=0"):
        arguments = ("train", *QUIET, f"callbacks.diagnosis.{setting}")
        assert "callbacks.diagnosis" in condgen(*arguments, cwd=tmp_path).sentence()
