"""A GAN with all its extras: one seed is one run, resumed or not, in one process or two."""

from pathlib import Path

import pytest
import torch
from command import condgen
from recipes import batches, cut_and_whole, fit, make_model, same

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL = (1, 8, 8)
LINEAR = "model.options.decay={_target_: condgen.training.schedules.Linear, start: 0.25, end: 0.1}"
EVERYTHING = (
    "model=cgan_conv",
    "model.generator.network.width=8",
    "model.discriminator.width=8",
    "model.discriminator.dropout=0.3",
    "model.alternation.fake_condition=random",
    "model.alternation.discriminator_steps=2",
    "model.alternation.reuse_fake=false",
    "model.alternation.micro_batches=2",
    "regularizer=[r1,gp,consistency,lecam]",
    "model.regularizers.r1.every=3",
    "model.regularizers.lecam.every=2",
    "discriminator_augment=ada",
    "model.discriminator_augment.images=300",
    "model.discriminator_augment.interval=3",
    "model.discriminator_augment.target=-0.9",
    "auxiliary=acgan",
    "model.options.gradient_clip=1.0",
    "model.options.warmup=3",
    "model.options.channels_last=true",
    "model.options.ema=0.9",
    LINEAR,
)


def test_one_seed_is_one_run():
    first, second, other = (make_model(*EVERYTHING, seed=seed, shape=SMALL) for seed in (1, 1, 2))
    for model in (first, second, other):
        torch.manual_seed(id(model) % 1000)  # the global state must not matter
        fit(model, batches(6, shape=SMALL))
    assert same(list(first.state_dict().values()), list(second.state_dict().values()))
    assert not same(list(first.parameters()), list(other.parameters()))


def test_a_resumed_run_equals_one_never_stopped(tmp_path: Path) -> None:
    """Cut in the second epoch, between two updates of G, two penalized updates of D and two steps of ADA."""
    path, data = tmp_path / "cut.ckpt", batches(7, size=8, shape=SMALL)
    cut, whole = cut_and_whole(lambda: make_model(*EVERYTHING, shape=SMALL), data, path, 11, max_epochs=3)
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["regularizers.lecam.updates"] == 2 * 6  # its means move with each micro-batch
    assert state["regularizers.lecam.fake_anchor"] != 0 and state["augment.probability"] > 0 and state["augment.signs"] != 0
    for (name, one), other in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    rates = [[optimizer.param_groups[0]["lr"] for optimizer in model.trainer.optimizers] for model in (cut, whole)]
    assert rates[0] == rates[1] and rates[0][0] < 1e-3
    assert cut.latest == whole.latest and cut.counts == whole.counts


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
    assert states[0]["augment.probability"] > 0 and states[0]["regularizers.lecam.updates"] == 12
