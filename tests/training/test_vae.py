"""The VAE family: the published CVAE, the objective's terms, warm-up, and the deterministic autoencoder.

What it shares with the other families of one network is in test_single_network.py.
"""

import math
from functools import partial

import pytest
import torch
from recipes import DIGITS, batches, fit, make_model, same, weights
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from condgen.conditions import OneHot
from condgen.errors import CondgenError
from condgen.generators.priors import GaussianPrior
from condgen.generators.vae import VAEGenerator
from condgen.losses.reconstruction import ReconstructionLoss
from condgen.spaces import Images, Points

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONDITION = torch.arange(4)
SMALL = (1, 8, 8)
CONV = ("model=cvae_conv", "model.generator.encoder.width=4", "model.generator.decoder.width=4")


def noise(seed=0, latent=64):
    return torch.randn(4, latent, generator=torch.Generator().manual_seed(seed))


def shapes(network):
    return [tuple(layer.weight.shape[::-1]) for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


def test_c_cvae_mlp():
    model = make_model("model=cvae_mlp")
    assert shapes(model.generator.encoder) == [(784 + 10, 512), (512, 2 * 64)]  # mean and log-variance
    assert shapes(model.generator.decoder) == [(64 + 10, 512), (512, 794)]  # asked for a class, which is decoded with the image
    unasked = make_model("model=cvae_mlp", "model.generator.decoder.embedding=null").generator
    assert shapes(unasked.decoder) == [(64, 512), (512, 794)]
    optimizer = fit(model, batches(1)).optimizers[0]
    assert type(optimizer) is torch.optim.Adam and optimizer.param_groups[0]["lr"] == 1e-3
    assert type(model.generator.loss).__name__ == "SquaredError" and model.beta == 1 and model.generator.decode_condition


def test_image_and_label_are_both_decoded():
    model = make_model("model=cvae_mlp")
    vae = model.generator
    ((x, condition),) = batches(1)
    reconstruction, _, _ = model.terms(vae, x, condition, noise())
    mean, log_variance = vae.encoder(x, condition)
    outputs = vae.decoder(mean + (log_variance / 2).exp() * noise(), condition).sigmoid()
    target = torch.cat([(x.flatten(1) + 1) / 2, torch.eye(10)[condition]], dim=1)
    torch.testing.assert_close(reconstruction, ((outputs - target) ** 2).sum(1))


def test_the_terms_are_those_of_the_lower_bound():
    model = make_model("model=cvae_conv")
    x = torch.randint(0, 2, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    vae = model.generator.eval()
    reconstruction, kl, code = model.terms(vae, x, CONDITION, noise(latent=32))
    mean, log_variance = vae.encoder(x, CONDITION)
    assert torch.equal(code, mean)
    q = Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1), rtol=1e-4, atol=1e-4)
    outputs = vae.decoder(mean + q.stddev * noise(latent=32), CONDITION)
    expected = -Bernoulli(logits=outputs).log_prob((x.flatten(1) + 1) / 2).sum(1)
    torch.testing.assert_close(reconstruction, expected)


def test_the_reported_objective_is_reconstruction_plus_beta_kl():
    model = make_model(*CONV, "model.beta=4", shape=SMALL)
    metrics = fit(model, batches(3, shape=SMALL), batches(2, shape=SMALL)).callback_metrics
    expected = metrics["val/reconstruction"] + 4 * metrics["val/kl"]
    assert metrics["val/loss"].item() == pytest.approx(expected.item(), rel=1e-6) and metrics["val/kl"] > 1e-3
    assert model.latest["loss"] == pytest.approx(model.latest["reconstruction"] + 4 * model.latest["kl"], rel=1e-5)


def test_training_and_validation_report_the_same_objective():
    """One batch, weights that do not move, and the noise of both steps made equal."""
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0", "model.kl_warmup=100")
    terms = model.terms
    model.terms = lambda vae, x, condition, _: terms(vae, x, condition, noise())
    data = batches(1)
    trainer = fit(model, data, data)
    for name in ("loss", "reconstruction", "kl"):  # the full beta, although it is still warming up
        assert model.latest[name] == pytest.approx(trainer.callback_metrics[f"val/{name}"].item(), rel=1e-5)


def test_validation_is_a_mean_over_samples_not_over_batches():
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0", "model.beta=0")
    (x, condition), *_ = batches(1, size=5)
    parts = [(x[:4], condition[:4]), (x[4:], condition[4:])]
    split = fit(model, parts, parts).callback_metrics["val/loss"].item()
    whole = fit(model, parts, [(x, condition)]).callback_metrics["val/loss"].item()
    assert split == pytest.approx(whole, rel=1e-5)


def test_beta_warms_up_linearly():
    model = make_model("model=cvae_mlp", "model.beta=2", "model.kl_warmup=4", "model.optimizer.lr=0")
    seen = []
    step, terms = model.training_step, model.terms

    def watched(batch, batch_idx):
        loss = step(batch, batch_idx)
        reconstruction, kl = (term.mean() for term in model.last[:2])
        seen.append(((loss - reconstruction) / kl).item())
        return loss

    def remembered(*arguments):
        model.last = terms(*arguments)
        return model.last

    model.training_step, model.terms = watched, remembered
    fit(model, batches(6))
    assert seen == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-3)


def test_beta_zero_is_a_deterministic_autoencoder():
    ((x, condition),) = batches(1)
    for beta, alike in ((0, True), (1, False)):
        model = make_model("model=cvae_mlp", f"model.beta={beta}").eval()
        first, second = (model.terms(model.generator, x, condition, noise(seed))[0] for seed in (0, 1))
        assert torch.equal(first, second) == alike


def test_the_variance_of_codes_is_that_of_the_encoders_means_over_the_validation_part():
    model, val = make_model(*CONV, shape=SMALL), batches(3, size=5, shape=SMALL)
    assert model.code_variance is None
    fit(model, batches(2, shape=SMALL), [*val[:2], (val[2][0][:1], val[2][1][:1])])
    x, condition = (torch.cat([batch[i] for batch in val])[:11] for i in (0, 1))
    with torch.no_grad():
        means = model.generator.eval().posterior(x, condition)[0]
    torch.testing.assert_close(model.code_variance, means.double().var(0, correction=0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "overrides, reported",
    [
        (["loss=gaussian", "loss.discretized=true"], True),
        (["loss=gaussian", "loss.discretized=true", "model.beta=2"], False),  # no bound on the likelihood
        (["loss=gaussian"], False),
        (["loss=bernoulli"], False),
    ],
)
def test_bits_per_dimension_only_where_they_mean_something(overrides, reported):
    data = batches(1, shape=SMALL)
    metrics = fit(make_model(*CONV, *overrides, shape=SMALL), data, data).callback_metrics
    assert ("val/bits_per_dim" in metrics) == reported
    if reported:
        assert metrics["val/bits_per_dim"].item() == pytest.approx(metrics["val/loss"].item() / (64 * math.log(2)), rel=1e-5)


def test_the_learned_scale_is_trained():
    model = make_model(*CONV, "loss=gaussian", shape=SMALL)
    before = model.generator.loss.log_sigma.item()
    fit(model, batches(2, shape=SMALL))
    assert model.generator.loss.log_sigma.item() != before
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.configure_optimizers().param_groups[0]["params"]}


def test_samples_are_the_decoded_means_of_the_prior():
    vae = make_model("model=cvae_mlp").generator.eval()
    z = torch.randn(3, 64, generator=torch.Generator().manual_seed(7))
    expected = vae.decoder(z, torch.tensor([2, 2, 2]))[:, :784].sigmoid().view(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(vae.sample(2, 3, generator=torch.Generator().manual_seed(7)), expected)


@pytest.mark.parametrize("prior", ["gaussian", "flow"])
def test_samples_go_through_the_prior(prior):
    vae = make_model(*CONV, f"prior={prior}", shape=SMALL).generator.eval()
    with torch.no_grad():
        for parameter in vae.prior.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    z, label = noise(7, latent=32), torch.tensor([2, 2, 2, 2])

    def decoded(code):
        return vae.decoder(code, label).sigmoid().view(-1, *SMALL) * 2 - 1

    drawn = vae.sample(2, 4, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(drawn, decoded(vae.prior(z, label)))
    assert not torch.allclose(drawn, decoded(z))
    vae.set_sampling(temperature=0.5)
    torch.testing.assert_close(vae.sample(2, 4, generator=torch.Generator().manual_seed(7)), decoded(vae.prior(z * 0.5, label)))


def test_a_figure_says_the_temperature_unless_it_is_one():
    assert make_model(*CONV, "model.generator.temperature=0.5", shape=SMALL).generator.sampling == {"temperature": 0.5}
    assert make_model(*CONV, shape=SMALL).generator.sampling == {}


@pytest.mark.parametrize("prior", ["gaussian", "flow"])
def test_a_learned_prior_learns_and_is_part_of_the_objective(prior):
    model = make_model(*CONV, f"prior={prior}", shape=SMALL)
    before = weights(model.generator.prior)
    metrics = fit(model, batches(3, shape=SMALL), batches(1, shape=SMALL)).callback_metrics
    pairs = zip(before, weights(model.generator.prior), strict=True)
    assert not any(torch.equal(*pair) for pair in pairs if pair[0].ndim == 1)
    assert metrics["val/loss"].item() == pytest.approx((metrics["val/reconstruction"] + metrics["val/kl"]).item(), rel=1e-6)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["model.beta=0", "prior=flow"], "set prior=none"),
        (["loss=hinge"], "needs a reconstruction loss and Hinge is none"),
    ],
)
def test_what_cannot_be_is_refused(overrides, words):
    with pytest.raises(CondgenError, match=words):
        make_model(*CONV, *overrides, shape=SMALL)


# --- drawn pixels ---


def test_pixels_are_drawn_from_the_seed_anew_for_each_batch_and_always_alike_for_validation():
    seen = {}

    def watched(name):
        model = make_model(*CONV, "loss.binarize=true", "model.optimizer.lr=0", shape=SMALL)
        terms, seen[name] = model.terms, []
        model.terms = lambda vae, x, *rest: (seen[name].append(x), terms(vae, x, *rest))[1]
        return model

    ((grey, condition),) = batches(1, shape=SMALL)
    for name in ("one", "two"):
        fit(watched(name), [(grey, condition)] * 2, [(grey, condition)], max_epochs=2)
    first, other, validated, later, _, validated_again = seen["one"]
    assert set(first.unique().tolist()) == {-1, 1}
    assert not torch.equal(first, other) and not torch.equal(first, later) and torch.equal(validated, validated_again)
    assert same(seen["one"], seen["two"])


# --- likelihood ---

LABELS = torch.arange(400) % 10


class PlainGaussian(ReconstructionLoss):
    """A Gaussian of deviation 0.3 around the decoder's outputs: with linear networks all is known."""

    density = "levels"

    def forward(self, outputs, target):
        return -Normal(outputs, 0.3).log_prob(target).sum(1)


class LinearDecoder(torch.nn.Module):
    """W z with columns at right angles, so that the exact posterior is a product of independent Gaussians."""

    def __init__(self, latent, condition, space, extra):
        super().__init__()
        self.weight = torch.tensor([[1.0, 0.5], [1.0, -0.5], [-0.5, 1.0], [0.5, 1.0], [0.0, 0.3], [0.3, 0.0]])
        self.weight[:, 1] -= self.weight[:, 0] * (self.weight[:, 0] @ self.weight[:, 1]) / self.weight[:, 0].square().sum()

    def forward(self, z, condition):
        return z @ self.weight.T


class LinearEncoder(torch.nn.Module):
    """The exact posterior under a prior of the given moments (10, 2), moved by ``wrong`` deviations."""

    def __init__(self, weight, moments, wrong):
        super().__init__()
        self.weight, self.moments, self.wrong = weight, moments, wrong

    def forward(self, x, condition):
        mean, log_variance = (moment[condition] for moment in self.moments)
        precision = (-log_variance).exp() + self.weight.square().sum(0) / 0.09
        target = (x.flatten(1) + 1) / 2
        exact = (mean * (-log_variance).exp() + target @ self.weight / 0.09) / precision
        return exact + self.wrong * precision.rsqrt(), -precision.log() + 0.6 * self.wrong


def linear_gaussian(learned, wrong):
    """Return a VAE whose likelihood is known, samples x of it, and log p(x | c)."""
    stream = torch.Generator().manual_seed(3)
    moments = [scale * torch.randn(10, 2, generator=stream) if learned else torch.zeros(10, 2) for scale in (1.0, 0.4)]
    vae = VAEGenerator(
        Images((1, 2, 3)),
        DIGITS,
        PlainGaussian(),
        encoder=lambda **parts: torch.nn.Identity(),
        decoder=LinearDecoder,
        latent=2,
        prior=partial(GaussianPrior, embedding=OneHot) if learned else None,
    )
    if learned:
        vae.prior.weight.data = torch.cat(moments, 1)
    weight = vae.decoder.weight
    vae.encoder = LinearEncoder(weight, moments, wrong)
    mean, deviation = moments[0][LABELS], (moments[1][LABELS] / 2).exp()
    z = mean + deviation * torch.randn(400, 2, generator=stream)
    target = z @ weight.T + 0.3 * torch.randn(400, 6, generator=stream)
    covariance = (weight * deviation[:, None].square()) @ weight.T + 0.09 * torch.eye(6)
    exact = MultivariateNormal(mean @ weight.T, covariance).log_prob(target)
    return vae, (target * 2 - 1).view(-1, 1, 2, 3), exact.double()


@pytest.mark.parametrize("learned", [False, True], ids=["standard", "class-conditional"])
def test_of_a_known_likelihood_the_bounds_are_bounds_and_the_importance_sampled_one_is_tighter(learned):
    vae, x, exact = linear_gaussian(learned, wrong=0.5)
    found = {k: vae.likelihood(x, LABELS, torch.Generator().manual_seed(k), k) for k in (5, 500)}
    error = {k: (exact - found[k]["iwae"]).std().item() / 20 for k in found}
    for k in found:
        assert bool((found[k]["elbo"] <= found[k]["iwae"] + 1e-9).all())  # Jensen's inequality holds for each sample
        assert found[k]["iwae"].mean() <= exact.mean() + 3 * error[k]
    assert found[500]["elbo"].mean() < found[5]["iwae"].mean() - 0.1 < found[500]["iwae"].mean()
    assert abs(found[500]["iwae"].mean() - exact.mean()) < 3 * error[500] + 0.01
    bits = -found[5]["iwae"] / (6 * math.log(2))
    torch.testing.assert_close(found[5]["bits_per_dim"], bits)


@pytest.mark.parametrize("learned", [False, True], ids=["standard", "class-conditional"])
def test_with_the_exact_posterior_both_bounds_are_the_likelihood(learned):
    vae, x, exact = linear_gaussian(learned, wrong=0.0)
    for k in (1, 7):
        found = vae.likelihood(x, LABELS, torch.Generator().manual_seed(k), k)
        for name in ("elbo", "iwae"):
            torch.testing.assert_close(found[name], exact, rtol=0, atol=1e-3)


def test_the_lower_bound_is_the_negative_objective():
    model = make_model(*CONV, "loss.binarize=true", shape=SMALL).eval()
    vae, (x, label) = model.generator, batches(1, size=200, shape=SMALL)[0]
    with torch.no_grad():
        found = vae.likelihood(x, label, torch.Generator().manual_seed(0), 20)
        drawn = vae.loss.observed(x, lambda: torch.rand(x.shape, generator=torch.Generator().manual_seed(0)))
        assert set(found) == {"elbo", "iwae", "bits_per_dim"} and bool((found["elbo"] <= found["iwae"] + 1e-9).all())
        z = torch.randn(200, 32, generator=torch.Generator().manual_seed(1))
        objective = sum(model.terms(vae, drawn, label, z)[:2])
    assert found["elbo"].mean().item() == pytest.approx(-objective.mean().item(), abs=0.3)


@pytest.mark.parametrize(
    ("overrides", "density"),
    [
        (["loss.binarize=true"], "bits"),
        ([], None),  # grey values have no likelihood under a Bernoulli
        (["loss=gaussian", "loss.discretized=true", "model.beta=2"], "levels"),
        (["loss=gaussian"], None),
        (["model=cvae_mlp", "loss=bernoulli", "loss.binarize=true"], None),  # which is about the label too
    ],
)
def test_a_likelihood_only_where_the_loss_is_one(overrides, density):
    assert make_model("model=cvae_conv", *overrides).generator.density == density


def test_points_have_no_pixels_to_draw():
    with pytest.raises(CondgenError, match=r"loss\.binarize"):
        make_model("model=cvae_mlp", "model.options.expects=null", "loss=bernoulli", "loss.binarize=true", space=Points())
