"""A GAN with all its extras: one seed is one run, stopped and resumed or not, in one process or two."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command import condgen
from recipes import batches, fit, make_model, same

from condgen.callbacks.interrupt import Interrupt

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
LINEAR = "model.decay={_target_: condgen.training.schedules.Linear, start: 0.25, end: 0.1}"
EVERYTHING = (
    "model=cgan_conv",
    "model.fake_condition=random",
    "model.discriminator_steps=2",
    "regularizer=[r1,gp,consistency,lecam]",
    "model.regularizers.r1.every=3",
    "model.regularizers.lecam.every=2",
    "discriminator_augment=ada",
    "model.discriminator_augment.images=300",
    "model.discriminator_augment.interval=3",
    "model.gradient_clip=1.0",
    "auxiliary=acgan",
    "model.accumulate=2",
    "model.channels_last=true",
    LINEAR,
)


def test_two_runs_with_one_seed_are_one():
    first, second = (make_model(*EVERYTHING, seed=1) for _ in range(2))
    for model in (first, second):
        torch.manual_seed(id(model) % 1000)  # the global state must not matter
        fit(model, batches(6))
    assert same(list(first.state_dict().values()), list(second.state_dict().values()))


def test_a_resumed_run_equals_one_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in mid-epoch, between two penalized turns and between two steps of ADA."""
    overrides = (*EVERYTHING, "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=10", "data.batch_size=16")
    quiet = (
        "trainer.limit_val_batches=1",
        "trainer.log_every_n_steps=4",
        "callbacks.evaluation=null",
        "callbacks.samples=null",
    )

    def command(*arguments: object, code: int = 0) -> None:
        result = condgen(*arguments, cwd=tmp_path)
        assert result.code == code, result

    command("train", f"hydra.run.dir={tmp_path / 'whole'}", *overrides, *quiet)
    after_batch = Interrupt.on_train_batch_end

    def press(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.fit_loop.total_batch_idx == 12:
            os.kill(os.getpid(), signal.SIGINT)
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Interrupt, "on_train_batch_end", press)
    command("train", f"hydra.run.dir={tmp_path / 'stopped'}", *overrides, *quiet, code=130)
    monkeypatch.undo()
    state = torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["regularizers.lecam.turns"] == 2 * 7  # its means move with each piece
    assert state["regularizers.lecam.fake_anchor"] != 0 and state["augment.probability"] > 0 and state["augment.signs"] != 0
    command("resume", tmp_path / "stopped")
    one, two = (torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "stopped"))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key
    rates = [[group["lr"] for group in state["param_groups"]] for state in one["optimizer_states"]]
    assert rates == [[group["lr"] for group in state["param_groups"]] for state in two["optimizer_states"]]
    assert rates[0][0] < 1e-3
    assert (tmp_path / "whole/metrics.json").read_text() == (tmp_path / "stopped/metrics.json").read_text()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """The penalties' random numbers and LeCam's anchors are those of the whole batch; ADA's sign too."""
    overrides = ("experiment=none", "model=cgan_mlp", "regularizer=[r1,gp,consistency,lecam]", "discriminator_augment=ada")
    overrides = (*overrides, "model.discriminator_augment.images=500", "model.discriminator_augment.target=0.1", LINEAR)
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=12", "trainer.limit_val_batches=1", "data.batch_size=16")
    short = (*short, "callbacks.evaluation=null", "callbacks.samples=null")
    states = []
    for name in ("cpu", "ddp_cpu"):
        result = condgen("train", f"trainer={name}", f"hydra.run.dir={tmp_path / name}", *overrides, *short, cwd=tmp_path)
        assert result.code == 0, result
        states.append(torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
    for key, value in states[0].items():
        assert torch.allclose(value, states[1][key], atol=2e-4), key
    assert states[0]["augment.probability"] > 0 and states[0]["regularizers.lecam.turns"] == 12
