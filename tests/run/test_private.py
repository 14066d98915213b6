"""Private runs: killed and resumed to the same bits, and what would break the proof refused in a sentence."""

from pathlib import Path

import pytest
import torch
from command import TINY, condgen, only_run
from torch import Tensor

from condgen.training.privacy import Privacy

PRIVATE = ("data=mnist", "privacy=dp", "privacy.accountant=rdp", *TINY)
VAE = (*PRIVATE, "model=cvae_mlp", "model.generator.encoder.hidden=[8]", "model.generator.decoder.hidden=[8]")
GAN = (*PRIVATE, "model=cgan_mlp", "model.alternation.fake_condition=random")


@pytest.mark.parametrize("model", [VAE, GAN], ids=["vae", "gan"])
def test_a_killed_run_spends_and_ends_as_one_that_was_not(
    tmp_path: Path, model: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    plan = (*model, "privacy.secret=5", "trainer.max_steps=4", "trainer.max_epochs=-1", "callbacks.checkpoint.every_steps=1")
    whole.mkdir(), killed.mkdir()
    assert condgen("train", *plan, cwd=whole).code == 0

    def dying(self: Privacy, total: list[Tensor], bound: float, *key: int) -> list[Tensor]:
        if key == (1, 2):  # the last of four steps: the checkpoint is of the third
            raise RuntimeError("killed")
        return noisy(self, total, bound, *key)

    noisy = Privacy.noisy
    with monkeypatch.context() as patched:
        patched.setattr(Privacy, "noisy", dying)
        assert condgen("train", *plan, cwd=killed).code == 70
    run = only_run(killed)
    last = run / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["privacy"]["done"] in (2, 3)
    assert condgen("resume", run, cwd=killed).code == 0
    wanted = torch.load(only_run(whole) / "checkpoints" / "last.ckpt", weights_only=True)
    found = torch.load(last, weights_only=True)
    assert wanted["privacy"]["done"] == 4
    assert wanted["privacy"] == found["privacy"]
    for name, tensor in wanted["state_dict"].items():
        assert torch.equal(tensor, found["state_dict"][name]), name


def test_the_secret_is_kept_beside_the_run_and_not_in_what_is_passed_on(tmp_path: Path) -> None:
    done = condgen("train", *VAE, "trainer.max_epochs=1", cwd=tmp_path)
    assert done.code == 0, done
    run = only_run(tmp_path)
    secret = (run / "privacy.key").read_text().strip()
    assert secret.isdecimal() and (run / "privacy.key").stat().st_mode & 0o077 == 0
    assert secret not in (run / "config.yaml").read_text()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["privacy"]["spent"] <= 10
    assert int(secret) not in checkpoint["privacy"].values()
    space = checkpoint["condgen"]["space"]
    assert "mean" not in space and "deviation" not in space
    assert condgen("export", run, "--out", tmp_path / "exported", cwd=tmp_path).code == 0
    passed_on = [file.read_bytes() for file in (tmp_path / "exported").rglob("*") if file.is_file()]
    assert not any(secret.encode() in content for content in passed_on)
    assert "epsilon 10 and delta 1e-05" in (tmp_path / "exported" / "README.md").read_text()
    (run / "privacy.key").unlink()
    assert "with other noise" in condgen("resume", run, "trainer.max_epochs=2", cwd=tmp_path).sentence()
    (run / "privacy.key").write_text(secret)
    assert "steps=2, and this would go on with 4" in condgen("resume", run, "trainer.max_epochs=2", cwd=tmp_path).err


REFUSED = {
    "model=glow": "a Glow does not",
    "model=cgan_mlp": "fake_condition=random",
    "trainer.precision=bf16-mixed": "trainer.precision=32-true",
    "run.budget_minutes=1": "set trainer.max_steps",
    "run.objective=val/loss": "private validation images decide",
    "callbacks.checkpoint.monitor=val/loss": "callbacks.checkpoint.monitor=val/loss lets private validation images decide",
    "trainer=ddp_cpu": "trainer.devices=1",
    "run.finetune=elsewhere": "run.finetune starts from weights",
    "privacy.delta=0.1": "given away whole",
    "privacy.noise=0.01": "would spend an epsilon",
    "privacy.epsilon=0": "privacy.epsilon must be a number above 0",
    "privacy.delta=2": "privacy.delta must be",
    "model.options.compile=true": "compile=false",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_breaks_the_proof_is_refused_in_a_sentence(tmp_path: Path, override: str) -> None:
    arguments = [argument for argument in VAE if not (override.startswith("model=") and argument.startswith("model"))]
    refused = condgen("train", *arguments, "trainer.max_epochs=1", override, cwd=tmp_path)
    assert refused.code == 1
    assert REFUSED[override] in refused.err.splitlines()[-1] and refused.err.splitlines()[-1].endswith("."), refused
    assert not list(tmp_path.rglob("*.ckpt"))
