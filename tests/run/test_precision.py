"""``trainer.precision=auto`` is decided once, by what the device does fast; a run keeps what was decided, and says it."""

from pathlib import Path

import pytest
import torch
import yaml
from command import TINY, condgen
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from condgen.config.folder import conf_dir
from condgen.run import precision

BF16 = ["cifar10_colorize", "cifar10_inpaint", "mnist_attributes_flow", "mnist_attributes_gan", "mnist_best"]
BF16 += ["mnist_cvae_conv", "mnist_flow_matching", "mnist_glow", "mnist_vae_flow", "stylize"]
BF16 += ["cifar10_best", "cifar10_quick", "fashion_mnist_quick", "mnist_inpaint"]
BF16 += ["cifar10_tasks", "songci", "spoken_digits_flow", "spoken_digits_gan", "spoken_digits_vae", "spoken_digits_vocoder"]
BF16 += ["cifar10_longtail", "mnist_captions", "mnist_distilled", "mnist_mepf", "mnist_merf", "mnist_tags"]
"""The recipes whose figures were measured in bf16, or that have none yet."""
RUN = ("experiment=none", "model=cvae_mlp", *TINY, "logger=none", "callbacks.samples=null", "trainer.max_epochs=1")
FAST, SLOW = (True, "this CPU has AVX512-BF16"), (False, "this CPU has neither AMX-BF16 nor AVX512-BF16")
JUDGE = precision.fast_bf16


def mask(monkeypatch: pytest.MonkeyPatch, answer: tuple[bool, str]) -> None:
    """Let every device be fast in bf16, or slow."""
    monkeypatch.setattr(precision, "fast_bf16", lambda device: answer)


def stored(run: Path) -> str:
    """Return the precision in a run's config.yaml."""
    found: str = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"]
    return found


@pytest.mark.slow
def test_recipes_take_bf16_where_it_is_fast_and_was_found_worth_it(monkeypatch):
    recipes = [file.stem for file in (conf_dir() / "experiment").glob("[!_]*.yaml")]
    assert set(BF16) < set(recipes)
    for recipe in recipes:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            trainer = OmegaConf.to_container(compose("train", [f"experiment={recipe}"]).trainer)
        for answer, expected in ((FAST, "bf16-mixed"), (SLOW, "32-true")):
            mask(monkeypatch, answer)
            wanted = expected if recipe in [*BF16, "none"] else "32-true"
            assert precision.decided({"trainer": trainer})["trainer"]["precision"] == wanted, recipe


def test_a_run_keeps_what_was_decided_when_it_began(tmp_path, monkeypatch):
    mask(monkeypatch, FAST)
    result = condgen("train", *RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert "Precision bf16-mixed: this CPU has AVX512-BF16." in result.err and stored(tmp_path / "run") == "bf16-mixed", result
    mask(monkeypatch, SLOW)
    result = condgen("resume", "run", "trainer.max_epochs=2", cwd=tmp_path)
    told = "bf16-mixed is slow here, this CPU has neither AMX-BF16 nor AVX512-BF16: 32-true would be faster"
    assert result.code == 0 and told in result.err and stored(tmp_path / "run") == "bf16-mixed", result
    assert told in (tmp_path / "run/train.log").read_text()
    result = condgen("resume", "run", "trainer.max_epochs=3", "trainer.precision=auto", cwd=tmp_path)
    assert "Precision 32-true: this CPU has neither" in result.err and stored(tmp_path / "run") == "32-true", result


def test_a_precision_that_is_named_is_taken_anywhere(tmp_path, monkeypatch):
    mask(monkeypatch, FAST)
    result = condgen("train", *RUN, "trainer.precision=32-true", "hydra.run.dir=run", cwd=tmp_path)
    assert "Precision 32-true, as configured; this CPU has AVX512-BF16." in result.err, result
    assert stored(tmp_path / "run") == "32-true"


@pytest.mark.parametrize(
    ("found", "fast", "why"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, False, "neither AMX-BF16 nor AVX512-BF16"),
        ({"architecture": "x86_64", "avx512_bf16": True}, True, "AVX512-BF16"),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True}, True, "AMX-BF16"),
        ({"architecture": "arm64", "bf16": False}, False, "no instructions"),
        ({"architecture": "arm64", "bf16": True}, None, "times as fast"),
    ],
)
def test_a_processor_is_judged_by_its_flags_and_where_these_do_not_tell_by_a_probe(found, fast, why, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(precision, "probe", lambda: 1.5)
    judged, told = JUDGE.__wrapped__("cpu")
    assert judged is (True if fast is None else fast) and why in told
    monkeypatch.setattr(precision, "probe", lambda: 1.1)
    assert JUDGE.__wrapped__("cpu")[0] is bool(fast)


def test_the_probe_takes_milliseconds_and_sees_what_this_processor_does():
    assert 0 < precision.probe() < 100
