"""The VAE family: the published CVAE, the objective's terms, warm-up, and the deterministic autoencoder."""

import math
from functools import partial

import pytest
import torch
from condgen.training.priors import GaussianPrior
from recipes import DIGITS, batches, fit, make_model, same, weights
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from condgen.conditions import OneHot
from condgen.errors import CondgenError
from condgen.losses.reconstruction import ReconstructionLoss
from condgen.spaces import Images, Points
from condgen.training.vae import VAE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONDITION = torch.arange(4)


def noise(seed=0, latent=64):
    return torch.randn(4, latent, generator=torch.Generator().manual_seed(seed))


def shapes(network):
    return [tuple(layer.weight.shape[::-1]) for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


def test_c_cvae_mlp():
    model = make_model("model=cvae_mlp")
    assert shapes(model.encoder) == [(784 + 10, 512), (512, 2 * 64)]  # mean and log-variance
    assert shapes(model.decoder) == [(64 + 10, 512), (512, 794)]  # asked for a class, which is decoded with the image
    assert shapes(make_model("model=cvae_mlp", "model.decoder.embedding=null").decoder) == [(64, 512), (512, 794)]
    optimizer = fit(model, batches(1)).optimizers[0]
    assert type(optimizer) is torch.optim.Adam and optimizer.param_groups[0]["lr"] == 1e-3
    assert type(model.loss).__name__ == "SquaredError" and model.beta == 1 and model.decode_condition


def test_image_and_label_are_both_decoded():
    model = make_model("model=cvae_mlp")
    ((x, condition),) = batches(1)
    reconstruction, _ = model.terms(x, condition, noise())
    mean, log_variance = model.encoder(x, condition)
    outputs = model.decoder(mean + (log_variance / 2).exp() * noise(), condition).sigmoid()
    target = torch.cat([(x.flatten(1) + 1) / 2, torch.eye(10)[condition]], dim=1)
    torch.testing.assert_close(reconstruction, ((outputs - target) ** 2).sum(1))


def test_the_terms_are_those_of_the_lower_bound():
    model = make_model("model=cvae_conv")
    x = torch.randint(0, 2, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    model.eval()
    reconstruction, kl = model.terms(x, CONDITION, noise(latent=32))
    mean, log_variance = model.encoder(x, CONDITION)
    q = Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1), rtol=1e-4, atol=1e-4)
    outputs = model.decoder(mean + q.stddev * noise(latent=32), CONDITION)
    expected = -Bernoulli(logits=outputs).log_prob((x.flatten(1) + 1) / 2).sum(1)
    torch.testing.assert_close(reconstruction, expected)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_reported_objective_is_reconstruction_plus_beta_kl(beta):
    model = make_model("model=cvae_mlp", f"model.beta={beta}")
    val = batches(2)
    trainer = fit(model, batches(3), val)
    metrics = trainer.callback_metrics
    expected = metrics["val/reconstruction"] + beta * metrics["val/kl"]
    assert metrics["val/loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert model.latest["loss"] == pytest.approx(model.latest["reconstruction"] + beta * model.latest["kl"], rel=1e-5)


def test_training_and_validation_report_the_same_objective():
    """One batch, weights that do not move, and the noise of both steps made equal."""
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0", "model.warmup=100")
    terms = model.terms
    model.terms = lambda x, condition, _: terms(x, condition, noise())
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


def test_validation_noise_is_the_same_in_every_epoch():
    model = make_model("model=cvae_mlp", "model.optimizer.lr=0")
    val = batches(2)
    first, second = (fit(model, batches(1), val).callback_metrics["val/loss"].item() for _ in range(2))
    assert first == second


def test_beta_warms_up_linearly():
    model = make_model("model=cvae_mlp", "model.beta=2", "model.warmup=4", "model.optimizer.lr=0")
    seen = []
    step, terms = model.training_step, model.terms

    def watched(batch, batch_idx):
        loss = step(batch, batch_idx)
        reconstruction, kl = (term.mean() for term in model.last)
        seen.append(((loss - reconstruction) / kl).item())
        return loss

    def remembered(*arguments):
        model.last = terms(*arguments)
        return model.last

    model.training_step, model.terms = watched, remembered
    fit(model, batches(6))
    assert seen == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-3)


def test_beta_zero_is_a_deterministic_autoencoder():
    model = make_model("model=cvae_mlp", "model.beta=0").eval()
    ((x, condition),) = batches(1)
    first, second = (model.terms(x, condition, noise(seed))[0] for seed in (0, 1))
    assert torch.equal(first, second)
    variational = make_model("model=cvae_mlp").eval()
    assert not torch.equal(*(variational.terms(x, condition, noise(seed))[0] for seed in (0, 1)))


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
    metrics = fit(make_model("model=cvae_conv", *overrides), batches(1), batches(1)).callback_metrics
    assert ("val/bits_per_dim" in metrics) == reported
    if reported:
        assert metrics["val/bits_per_dim"].item() == pytest.approx(metrics["val/loss"].item() / (784 * math.log(2)), rel=1e-5)


def test_the_learned_scale_is_trained():
    model = make_model("model=cvae_mlp", "model.decode_condition=false", "loss=gaussian")
    before = model.loss.log_sigma.item()
    fit(model, batches(2))
    assert model.loss.log_sigma.item() != before
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.configure_optimizers().param_groups[0]["params"]}


def test_samples_are_the_decoded_means_of_the_prior():
    model = make_model("model=cvae_mlp").eval()
    z = torch.randn(3, 64, generator=torch.Generator().manual_seed(7))
    expected = model.decoder(z, torch.tensor([2, 2, 2]))[:, :784].sigmoid().view(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(model.sample(2, 3, generator=torch.Generator().manual_seed(7)), expected)


@pytest.mark.parametrize("prior", ["gaussian", "flow"])
def test_samples_go_through_the_prior(prior):
    model = make_model("model=cvae_conv", f"prior={prior}").eval()
    with torch.no_grad():
        for parameter in model.code_prior.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    z, label = noise(7, latent=32), torch.tensor([2, 2, 2, 2])
    mean = model.decoder(model.code_prior(z, label), label).sigmoid().view(-1, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(model.sample(2, 4, generator=torch.Generator().manual_seed(7)), mean)
    assert not torch.allclose(mean, model.decoder(z, label).sigmoid().view(-1, 1, 28, 28) * 2 - 1)
    model.tune(temperature=0.5)
    narrow = model.decoder(model.code_prior(z * 0.5, label), label).sigmoid().view(-1, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(model.sample(2, 4, generator=torch.Generator().manual_seed(7)), narrow)
    usual = make_model("model=cvae_conv", "model.temperature=0.5")
    assert usual.knobs == {"temperature": 0.5} and model.knobs == usual.knobs and make_model("model=cvae_conv").knobs == {}
    with pytest.raises(CondgenError, match="temperature"):
        make_model("model=cvae_conv", "model.temperature=0")


@pytest.mark.parametrize("prior", ["gaussian", "flow"])
def test_a_learned_prior_learns_and_is_part_of_the_objective(prior):
    model = make_model("model=cvae_mlp", f"prior={prior}")
    before = weights(model.code_prior)
    metrics = fit(model, batches(3), batches(1)).callback_metrics
    assert not any(torch.equal(*pair) for pair in zip(before, weights(model.code_prior), strict=True) if pair[0].ndim == 1)
    assert metrics["val/loss"].item() == pytest.approx((metrics["val/reconstruction"] + metrics["val/kl"]).item(), rel=1e-6)


def test_the_learning_rate_falls_where_that_is_asked_for():
    decay = "model.decay={_target_: condgen.training.schedules.Linear}"
    trainer = fit(make_model("model=cvae_mlp", decay), batches(4))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)  # before the last of four updates


# --- drawn pixels ---


def test_pixels_are_drawn_from_the_seed_anew_for_each_batch_and_always_alike_for_validation():
    seen = {}

    def watched(name):
        model = make_model("model=cvae_conv", "loss.binarize=true", "model.optimizer.lr=0")
        terms, seen[name] = model.terms, []
        model.terms = lambda x, *rest: (seen[name].append(x), terms(x, *rest))[1]
        return model

    ((grey, condition),) = batches(1)
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
    """A VAE whose likelihood is known: samples x, their labels, the model and log p(x | c)."""
    stream = torch.Generator().manual_seed(3)
    moments = [scale * torch.randn(10, 2, generator=stream) if learned else torch.zeros(10, 2) for scale in (1.0, 0.4)]
    model = VAE(
        Images((1, 2, 3)),
        DIGITS,
        PlainGaussian(),
        encoder=lambda **parts: torch.nn.Identity(),
        decoder=LinearDecoder,
        latent=2,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        prior=partial(GaussianPrior, embedding=OneHot) if learned else None,
    )
    if learned:
        model.code_prior.weight.data = torch.cat(moments, 1)
    weight = model.decoder.weight
    model.encoder = LinearEncoder(weight, moments, wrong)
    mean, deviation = moments[0][LABELS], (moments[1][LABELS] / 2).exp()
    z = mean + deviation * torch.randn(400, 2, generator=stream)
    target = z @ weight.T + 0.3 * torch.randn(400, 6, generator=stream)
    covariance = (weight * deviation[:, None].square()) @ weight.T + 0.09 * torch.eye(6)
    exact = MultivariateNormal(mean @ weight.T, covariance).log_prob(target)
    return model, (target * 2 - 1).view(-1, 1, 2, 3), exact.double()


@pytest.mark.parametrize("learned", [False, True], ids=["standard", "class-conditional"])
def test_of_a_known_likelihood_the_bounds_are_bounds_and_the_importance_sampled_one_is_tighter(learned):
    model, x, exact = linear_gaussian(learned, wrong=0.5)
    found = {k: model.likelihood(x, LABELS, torch.Generator().manual_seed(k), k) for k in (5, 500)}
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
    model, x, exact = linear_gaussian(learned, wrong=0.0)
    for k in (1, 7):
        found = model.likelihood(x, LABELS, torch.Generator().manual_seed(k), k)
        for name in ("elbo", "iwae"):
            torch.testing.assert_close(found[name], exact, rtol=0, atol=1e-3)


def test_the_lower_bound_is_the_negative_objective():
    model = make_model("model=cvae_conv", "loss.binarize=true").eval()
    x, label = batches(1, size=200)[0]
    with torch.no_grad():
        found = model.likelihood(x, label, torch.Generator().manual_seed(0), 20)
        drawn = model.loss.observed(x, lambda: torch.rand(x.shape, generator=torch.Generator().manual_seed(0)))
        assert set(found) == {"elbo", "iwae", "bits_per_dim"} and bool((found["elbo"] <= found["iwae"] + 1e-9).all())
        z = torch.randn(200, 32, generator=torch.Generator().manual_seed(1))
        objective = sum(model.terms(drawn, label, z))
    assert found["elbo"].mean().item() == pytest.approx(-objective.mean().item(), abs=1)


@pytest.mark.parametrize(
    ("overrides", "density"),
    [
        (["loss.binarize=true"], "bits"),
        (["loss.binarize=true", "model.beta=0"], None),
        ([], None),  # grey values have no likelihood under a Bernoulli
        (["loss=gaussian", "loss.discretized=true", "model.beta=2"], "levels"),
        (["loss=gaussian"], None),
    ],
)
def test_a_likelihood_only_where_the_loss_is_one(overrides, density):
    assert make_model("model=cvae_conv", *overrides).density == density


def test_points_have_no_pixels_to_draw():
    with pytest.raises(CondgenError, match=r"loss\.binarize"):
        make_model("model=cvae_mlp", "model.expects=null", "loss=bernoulli", "loss.binarize=true", space=Points())
