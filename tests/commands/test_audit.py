"""``condgen audit``: copies of training images are found out, and a run that knows nothing is not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import TINY, condgen, only_run

from condgen.audit import calibrated, near
from condgen.metrics.membership import attack

SMALL = ("--count", "200", "--samples", "200")


def test_a_run_that_has_learned_nothing_gives_nothing_away(vae_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    said = condgen("audit", run, *SMALL, cwd=tmp_path)
    assert said.code == 0, said
    assert "cannot be told from unseen ones better than by chance" in said.out
    found = json.loads((run / "audit.json").read_text())
    assert [one["name"] for one in found["attacks"]] == ["nearest sample", "loss"]
    assert found["sizes"] == {"members": 200, "others": 200, "reference": 200, "samples": 200}
    assert all(one["auc_interval"][0] < 0.5 < one["auc_interval"][1] for one in found["attacks"])
    assert found["privacy"] is None


def test_samples_that_are_training_images_are_found_out_and_unseen_ones_are_not() -> None:
    stream = torch.Generator().manual_seed(0)
    members, others, reference, fresh = torch.randn(4, 300, 20, generator=stream)
    copied = attack("copies", *calibrated(members + 0.01, reference, [members, others]), 1e-5)
    assert copied.auc == 1.0 and copied.rates[1][1] == 1.0 and copied.epsilon > 3
    assert near(members + 0.01, members, others)[0] == 300
    unseen = attack("fresh", *calibrated(fresh, reference, [members, others]), 1e-5)
    assert unseen.auc_interval[0] < 0.5 < unseen.auc_interval[1]
    assert near(fresh, members, others)[0] < 20


@pytest.mark.parametrize("private", [False, True], ids=["open", "private"])
def test_canaries_bound_epsilon_from_below_and_under_what_is_claimed(tmp_path: Path, private: bool) -> None:
    plan = ("data=mnist", "model=merf", *TINY, "loss.features=2000", "data.batch_size=1000", "trainer.max_steps=2")
    claim = ("privacy=dp", "privacy.epsilon=8", "privacy.secret=3", "privacy.accountant=rdp") if private else ()
    assert condgen("train", *plan, *claim, "data.canaries=400", cwd=tmp_path).code == 0
    run = only_run(tmp_path)
    said = condgen("audit", run, *SMALL, cwd=tmp_path)
    assert said.code == 0, said
    found = json.loads((run / "audit.json").read_text())
    nearest, embedding = found["canaries"]
    assert (nearest["name"], embedding["name"]) == ("nearest sample", "embedding") and nearest["epsilon"] < 1
    assert embedding["canaries"] == 400 and f"guessed {embedding['right']}" in said.out
    if private:
        assert 0.5 < embedding["epsilon"] < 8 and "lies under it." in said.out
    else:
        assert embedding["right"] == embedding["guesses"] and embedding["epsilon"] > 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "nowhere"),
        (("RUN", "--count", "5"), "at least 20 are needed"),
        (("RUN", "--count", "0"), "--count"),
        (("RUN", "--samples", "none"), "--samples"),
        (("RUN", "--device", "cuda:99"), "not available here"),
        (("EXPORTED",), "has no run with its training data"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_a_sentence(
    vae_run: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    if "EXPORTED" in arguments:
        assert condgen("export", vae_run, "--out", tmp_path / "exported", cwd=tmp_path).code == 0
    places = {"RUN": str(vae_run), "EXPORTED": str(tmp_path / "exported")}
    refused = condgen("audit", *(places.get(argument, argument) for argument in arguments), cwd=tmp_path)
    assert sentence in refused.sentence()
