"""A compiled update does what the eager one does, and says in a sentence where it cannot."""

from pathlib import Path

import pytest
import torch
from recipes import batches, cut_and_whole, fit, make_model, weights

from condgen.errors import CondgenError
from condgen.training import compiled
from condgen.training.compiled import Moments

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
STEP = "model.options.compile=step"
LINEAR = "model.options.decay={_target_: condgen.training.schedules.Linear}"
GAN = (
    "model=cgan_mlp",
    "model.generator.network.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "model.options.ema=0.9",
    LINEAR,
)
TURNS = ("model.alternation.discriminator_steps=2", "model.alternation.fake_condition=random")
CVAE = (
    "model=cvae_mlp",
    "model.generator.encoder.hidden=[8]",
    "model.generator.decoder.hidden=[8]",
    "model.kl_warmup=4",
    LINEAR,
)
FIELD = (
    "model=flow_matching",
    "model.generator.network.widths=[8,8]",
    "model.generator.network.signal=8",
    "+model.optimizer.eps=1e-3",  # behind a norm a bias has only the gradient of rounding, which Adam would blow up
    "model.options.ema=0.9",
    LINEAR,
)


@pytest.fixture
def uncompiled(monkeypatch):
    """Let the update run as it is written, within a tenth of a second."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


# --- mathematics, without the compiler ---


@pytest.mark.parametrize("kind, decay", [(torch.optim.Adam, 0.0), (torch.optim.Adam, 0.1), (torch.optim.AdamW, 0.1)])
def test_adam_is_torchs(kind, decay):
    """Beside torch's own, from a state of two updates on."""
    stream = torch.Generator().manual_seed(0)
    mine, theirs = ([torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))] for _ in range(2))
    make = [kind(parameters, lr=0.1, betas=(0.5, 0.9), weight_decay=decay) for parameters in (mine, theirs)]
    for update in range(5):
        gradients = [torch.randn(p.shape, generator=stream) for p in mine]
        for optimizer, parameters in zip(make, (mine, theirs), strict=True):
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient.clone()
            if update < 2 or parameters is theirs:
                optimizer.step()
        if update >= 2:
            moments = Moments(make[0], clip=None)
            with torch.no_grad():
                moments.update(gradients, moments.rates())
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(make[0].state[one], make[1].state[other])


@pytest.mark.parametrize(
    "overrides",
    [
        GAN,
        (*GAN, *TURNS, "model.options.gradient_clip=0.01"),
        (*GAN, "model.alternation.reuse_fake=false", "auxiliary=acgan"),
        (*GAN, "model.alternation.order=generator_first", "loss=lsgan"),
        (*GAN, "model.alternation.reuse_fake=false", "discriminator_augment=diffaugment"),
        CVAE,
        (*CVAE, "model.options.ema=0.9", "model.options.gradient_clip=0.1"),
        FIELD,
    ],
)
def test_the_update_is_the_eager_one(overrides, uncompiled):
    eager, whole = make_model(*overrides), make_model(*overrides, STEP)
    for model in (eager, whole):
        fit(model, batches(4), log_every_n_steps=2)
    assert whole.counts == eager.counts and whole.trainer.global_step == eager.trainer.global_step
    assert whole.latest == pytest.approx(eager.latest, rel=1e-4)
    torch.testing.assert_close(weights(whole), weights(eager), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.statistics(), eager.statistics(), rtol=1e-3, atol=1e-5)


# --- with the compiler ---


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(*GAN, "discriminator_augment=diffaugment"), CVAE, FIELD])
def test_a_compiled_run_equals_the_eager_one_and_resumes_to_the_bit(overrides, tmp_path: Path) -> None:
    data = batches(3)
    cut, whole = cut_and_whole(lambda: make_model(*overrides, STEP), data, tmp_path / "cut.ckpt", 2, max_epochs=2)
    for (name, one), other in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    eager = make_model(*overrides)
    fit(eager, data, max_epochs=2)
    torch.testing.assert_close(weights(whole), weights(eager), rtol=1e-3, atol=1e-5)
    assert whole.latest == pytest.approx(eager.latest, rel=1e-3)


@pytest.mark.slow
def test_without_a_compiler_of_cpp_a_sentence_says_what_to_do(monkeypatch, tmp_path):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.raises(CondgenError, match=r"compile=step cannot compile this training .*compile=networks, or false"):
        fit(make_model(*GAN, "model.generator.latent=3", STEP), batches(1))


# --- what cannot be ---


@pytest.mark.parametrize(
    "overrides, options, words",
    [
        ((*GAN, "regularizer=r1"), {}, "regularizer=none"),
        ((*GAN, "discriminator_augment=ada"), {}, "discriminator_augment=diffaugment"),
        ((*GAN, "model.alternation.micro_batches=2"), {}, "micro_batches=1"),
        ((*GAN, "+model.generator_optimizer.amsgrad=true"), {}, "Adam and AdamW"),
        (CVAE, {"accumulate_grad_batches": 2}, "accumulate_grad_batches=1"),
    ],
)
def test_what_a_compiled_step_does_not_do_is_refused(overrides, options, words, uncompiled):
    with pytest.raises(CondgenError, match=f"compile=step.*{words}.*{compiled.ADVICE}"):
        fit(make_model(*overrides, STEP), batches(1), **options)


def test_other_families_are_refused():
    with pytest.raises(CondgenError, match="compile=step is for GANs, VAEs and flow matching, not for Glow"):
        make_model("model=glow", STEP)
