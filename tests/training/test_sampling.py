"""The options of sampling: each against what it is defined as, and refused where a family has no such thing."""

import json

import pytest
import torch
from command import FEWER, condgen
from recipes import batches, fit, make_model
from scipy import stats

from condgen.errors import CondgenError
from condgen.generators.base import BLOCK
from condgen.generators.sampling import truncated
from condgen.randomness import generator
from condgen.spaces import Points

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
    gan = make_model("model=cgan_mlp").generator.eval()
    plain = gan.sample(3, 5, seed=1)
    z = torch.randn(5, 100, generator=generator(1, "sample", 0))
    gan.set_sampling(truncation=0.7, temperature=0.5)
    expected = gan.network(truncated(z, 0.7) * 0.5, torch.full((5,), 3))
    torch.testing.assert_close(gan.sample(3, 5, seed=1), expected)
    gan.set_sampling()
    assert torch.equal(gan.sample(3, 5, seed=1), plain)


def test_training_does_not_see_how_samples_are_drawn():
    plain, narrow = (make_model("model=cgan_mlp") for _ in range(2))
    narrow.generator.set_sampling(truncation=0.1)
    for model in (plain, narrow):
        fit(model, batches(2))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), narrow.parameters(), strict=True))


def test_samples_come_in_blocks_of_their_own_streams():
    """Neither the number of samples nor who draws which block decides what is drawn."""
    gan = make_model("model=gan_points", space=Points()).generator.eval()
    whole = gan.sample(3, BLOCK + 10, seed=4)
    asked = gan.requested(3, BLOCK + 10, seed=4)
    assert torch.equal(gan.sample_block(1, asked[BLOCK:], seed=4), whole[BLOCK:])
    assert torch.equal(gan.sample(3, BLOCK, seed=4), whole[:BLOCK]) and not torch.equal(whole[:10], whole[BLOCK:])
    gan.train()
    gan.sample(3)
    assert all(module.training for module in gan.modules())
    with pytest.raises(CondgenError, match="count must be at least 1, not 0"):
        gan.sample(3, 0)


@pytest.mark.parametrize("ema", [0, 0.9])
def test_standing_statistics_are_means_over_generated_batches(ema):
    narrow = ("model.generator.network.width=4", "model.discriminator.width=4")
    model = make_model("model=cgan_conv", *narrow, f"model.options.ema={ema}", shape=(1, 8, 8))
    fit(model, batches(3, shape=(1, 8, 8)))
    gan = model.eval_generator.eval()
    norm = next(m for m in gan.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    before = norm.running_mean.clone()
    gan.set_sampling(standing=3)
    hook.remove()
    assert len(seen) == 3 and not torch.allclose(norm.running_mean, before)
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0))
    assert not any(module.training for module in gan.modules()) and norm.momentum == 0.1
    first = gan.sample(3, 4, seed=0)
    gan.set_sampling(standing=3)
    assert torch.equal(gan.sample(3, 4, seed=0), first)  # always the same batches


@pytest.mark.parametrize(
    "overrides, options, words",
    [
        (["model=cvae_mlp"], {"standing": 4}, "A VAEGenerator cannot be sampled with standing"),
        (["model=cgan_mlp"], {"standing": 4}, "no batch norm"),
        (["model=cgan_conv"], {"standing": 1.5}, "whole number"),
        (["model=cgan_mlp"], {"guidance": 2.0}, "it has truncation, temperature, standing"),
        (["model=cgan_mlp"], {"truncation": 0}, "positive"),
        (["model=cgan_mlp"], {"temperature": float("nan")}, "positive"),
    ],
)
def test_what_a_family_does_not_have_is_refused(overrides, options, words):
    with pytest.raises(CondgenError, match=words):
        make_model(*overrides).generator.set_sampling(**options)


def test_from_the_command_line(gan_run, tmp_path):
    for name, options in (("plain", []), ("tuned", ["--truncation", "0.1"])):
        result = condgen("sample", gan_run, "--count", 2, "--out", tmp_path / f"{name}.png", *options, cwd=tmp_path)
        assert result.code == 0, result
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "tuned.png").read_bytes()
    sentence = condgen("sample", gan_run, "--out", tmp_path / "no.png", "--standing", 3, cwd=tmp_path).sentence()
    assert "no batch norm" in sentence and not (tmp_path / "no.png").exists()


@pytest.mark.slow
def test_a_measurement_says_how_the_model_was_sampled(gan_run, tmp_path):
    settings = ["split=val", "samples=200", "suite=[fid]", "sampling.truncation=0.5", FEWER]
    assert condgen("evaluate", gan_run, *settings, "--out", tmp_path / "out", cwd=tmp_path).code == 0
    (record,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["quality"]
    assert record["protocol"]["truncation"] == 0.5 and record["protocol"]["temperature"] is None
    sentence = condgen("evaluate", gan_run, *settings, "sampling.guidance=2", cwd=tmp_path).sentence()
    assert "guidance" in sentence


def test_large_images_are_made_a_few_at_a_time(monkeypatch):
    model = make_model("model=acgan_conv", "model.generator.network.width=2", "model.discriminator.width=2", shape=(3, 64, 64))
    gan, sizes = model.generator.eval(), []
    decode = gan.decode
    monkeypatch.setattr(gan, "decode", lambda z, condition: (sizes.append(len(z)), decode(z, condition))[1])
    few = gan.sample([3, 5], 35, seed=1)
    assert sizes == [62, 8]
    z = gan.noise(70, generator(1, "sample", 0))
    torch.testing.assert_close(few, decode(z, torch.tensor([3] * 35 + [5] * 35)), rtol=1e-5, atol=1e-5)
