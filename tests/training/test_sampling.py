"""The knobs of sampling: each against what it is defined as, and refused where a family has no such thing."""

import json

import pytest
import torch
from command import condgen
from condgen.training.sampling import truncated
from recipes import batches, fit, make_model
from scipy import stats

from condgen.errors import CondgenError
from condgen.randomness import generator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("bound", [0.05, 0.5, 1.0, 2.0, 5.0])
def test_truncated_noise_is_the_truncated_normal(bound):
    z = torch.randn(20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    squeezed = truncated(z, bound)
    assert squeezed.abs().max() <= bound
    assert stats.kstest(squeezed.numpy(), stats.truncnorm(-bound, bound).cdf).pvalue > 0.01
    assert torch.equal(squeezed.argsort(), z.argsort())  # the same noise, nearer to the mean
    torch.testing.assert_close(truncated(z, 40.0), z, atol=1e-6, rtol=1e-6)


def test_truncation_and_temperature_change_the_noise_and_nothing_else():
    model = make_model("model=cgan_mlp").eval()
    plain = model.sample(3, 5, seed=1)
    z = torch.randn(5, 100, generator=generator(1, "sample", 0))
    model.tune(truncation=0.7, temperature=0.5)
    expected = model.generator(truncated(z, 0.7) * 0.5, torch.full((5,), 3))
    torch.testing.assert_close(model.sample(3, 5, seed=1), expected)
    model.tune()
    assert torch.equal(model.sample(3, 5, seed=1), plain)


def test_training_does_not_see_the_knobs():
    plain, tuned = (make_model("model=cgan_mlp") for _ in range(2))
    tuned.tune(truncation=0.1)
    for model in (plain, tuned):
        fit(model, batches(2))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tuned.parameters(), strict=True))


@pytest.mark.parametrize("ema", [0, 0.9])
def test_standing_statistics_are_means_over_generated_batches(ema):
    model = make_model("model=cgan_conv", f"model.ema={ema}")
    fit(model, batches(3))
    model.eval()
    norm = next(m for m in model.sampler.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    before = norm.running_mean.clone()
    model.tune(standing=3)
    hook.remove()
    assert len(seen) == 3 and not torch.allclose(norm.running_mean, before)
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0))
    assert not any(module.training for module in model.sampler.modules()) and norm.momentum == 0.1
    first = model.sample(3, 4, seed=0)
    model.tune(standing=3)
    assert torch.equal(model.sample(3, 4, seed=0), first)  # always the same batches


@pytest.mark.parametrize(
    "overrides, knobs, words",
    [
        (["model=cvae_mlp"], {"standing": 4}, "A VAE has no standing"),
        (["model=cgan_mlp"], {"standing": 4}, "no batch norm"),
        (["model=cgan_conv"], {"standing": 1.5}, "whole number"),
        (["model=cgan_mlp"], {"guidance": 2.0}, "it has truncation, temperature, standing"),
        (["model=cgan_mlp"], {"truncation": 0}, "positive"),
        (["model=cgan_mlp"], {"temperature": float("nan")}, "positive"),
    ],
)
def test_what_a_family_does_not_have_is_refused(overrides, knobs, words):
    with pytest.raises(CondgenError, match=words):
        make_model(*overrides).tune(**knobs)


def test_from_the_command_line(gan_run, tmp_path):
    for name, options in (("plain", []), ("tuned", ["--truncation", "0.1"])):
        result = condgen("sample", gan_run, "--count", 2, "--out", tmp_path / f"{name}.png", *options, cwd=tmp_path)
        assert result.code == 0, result
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "tuned.png").read_bytes()
    sentence = condgen("sample", gan_run, "--out", tmp_path / "no.png", "--standing", 3, cwd=tmp_path).sentence()
    assert "no batch norm" in sentence and not (tmp_path / "no.png").exists()


@pytest.mark.slow
def test_a_measurement_says_how_the_model_was_sampled(gan_run, tmp_path):
    settings = ["split=val", "samples=200", "suite=[fid]", "sampling.truncation=0.5"]
    assert condgen("evaluate", gan_run, *settings, "--out", tmp_path / "out", cwd=tmp_path).code == 0
    (record,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["quality"]
    assert record["protocol"]["truncation"] == 0.5 and record["protocol"]["temperature"] is None
    sentence = condgen("evaluate", gan_run, *settings, "sampling.guidance=2", cwd=tmp_path).sentence()
    assert "guidance" in sentence
