"""Priors of a VAE's code: what they claim about their density is true, and they learn what codes are like."""

import pytest
import torch
from recipes import DIGITS
from torch.distributions import Independent, Normal, kl_divergence

from condgen.conditions import ClassLabel, NoCondition, OneHot
from condgen.errors import CondgenError
from condgen.generators.priors import FlowPrior, GaussianPrior, Prior, StandardNormal
from condgen.losses.likelihood import log_normal

TWO = ClassLabel(["a", "b"])


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(prior, scale=0.5):
    """Move a prior away from the standard normal that it is at the start; in float64."""
    generator = stream()
    for parameter in prior.parameters():
        parameter.data = parameter.data + scale * torch.randn(parameter.shape, generator=generator)
    return prior.double()


def flow(latent=3, condition=TWO, couplings=3):
    torch.manual_seed(0)
    return FlowPrior(latent, condition, couplings=couplings, hidden=[16], embedding=OneHot)


def gaussian(latent=3, condition=TWO):
    return GaussianPrior(latent, condition, embedding=OneHot)


@pytest.mark.parametrize("make", [flow, gaussian])
def test_every_prior_starts_as_the_standard_normal(make):
    z = torch.randn(5, 3, generator=stream())
    torch.testing.assert_close(make().log_density(z, torch.arange(5) % 2), log_normal(z))
    torch.testing.assert_close(log_normal(z), Normal(0.0, 1.0).log_prob(z).sum(1))


@pytest.mark.parametrize("latent", [2, 3, 8])
def test_the_flow_is_inverted_exactly(latent):
    prior = shaken(flow(latent))
    noise, condition = torch.randn(50, latent, generator=stream(), dtype=torch.float64), torch.arange(50) % 2
    z = prior(noise, condition)
    assert (z - noise).abs().mean() > 0.3
    torch.testing.assert_close(prior.inverse(z, condition)[0], noise, rtol=0, atol=1e-9)


def test_the_log_determinant_of_the_flow_is_that_of_its_jacobian():
    prior = shaken(flow(5))
    z = torch.randn(4, 5, generator=stream(), dtype=torch.float64)
    for i in range(4):
        c = torch.tensor([i % 2])
        jacobian = torch.autograd.functional.jacobian(lambda row, c=c: prior.inverse(row[None], c)[0][0], z[i])
        assert prior.inverse(z[i][None], c)[1].item() == pytest.approx(jacobian.slogdet()[1].item(), abs=1e-9)


@pytest.mark.parametrize("make", [flow, gaussian])
def test_the_density_of_each_condition_integrates_to_one_and_its_draws_follow_it(make):
    prior = shaken(make(2), 0.2)
    axis = torch.linspace(-16, 16, 641, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    noise = torch.randn(40_000, 2, generator=stream(), dtype=torch.float64)
    means = []
    for label in (0, 1):
        mass = prior.log_density(z, torch.full((len(z),), label)).exp() * (axis[1] - axis[0]) ** 2
        assert mass.sum().item() == pytest.approx(1, abs=1e-3)
        means.append((mass[:, None] * z).sum(0))
        drawn = prior(noise, torch.full((len(noise),), label))
        torch.testing.assert_close(drawn.mean(0), means[-1], rtol=0, atol=5 * drawn.std().item() / 200)
    assert (means[0] - means[1]).abs().max() > 0.1  # the condition matters


@pytest.mark.parametrize("prior", [StandardNormal(), shaken(gaussian())], ids=["standard", "gaussian"])
def test_the_closed_divergence_is_the_mean_of_its_estimate(prior):
    mean, log_variance = torch.tensor([[0.3, -1.0, 2.0]]).double(), torch.tensor([[-1.0, 0.5, 0.0]]).double()
    label, count = torch.tensor([1]), 100_000
    closed = prior.divergence(mean, log_variance, mean, label)
    z = mean + (log_variance / 2).exp() * torch.randn(count, 3, generator=stream(), dtype=torch.float64)
    wide = mean.expand(count, -1), log_variance.expand(count, -1)
    estimates = Prior.divergence(prior, *wide, z, label.expand(count))
    assert abs(estimates.mean() - closed) < 4 * estimates.std() / count**0.5
    if isinstance(prior, GaussianPrior):
        of_mean, of_log_variance = prior.moments(label)
        p, q = (Independent(Normal(m, (v / 2).exp()), 1) for m, v in ((of_mean, of_log_variance), (mean, log_variance)))
        torch.testing.assert_close(closed, kl_divergence(q, p))


def test_the_gaussian_prior_learns_the_moments_of_each_class():
    prior = gaussian(1)
    codes, labels = torch.tensor([[1.0], [3.0], [-4.0]]), torch.tensor([0, 0, 1])
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(400):
        prior.divergence(codes, torch.full((3, 1), -2.0), codes, labels).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    mean, log_variance = prior.moments(torch.arange(2))
    within = torch.tensor(-2.0).exp()
    torch.testing.assert_close(mean, torch.tensor([[2.0], [-4.0]]), atol=0.05, rtol=0)
    torch.testing.assert_close(log_variance.exp(), torch.stack([1 + within, within])[:, None], atol=0.05, rtol=0)


@pytest.mark.slow
def test_the_flow_learns_what_no_gaussian_can_be():
    """Codes on a circle of a radius that the class decides."""
    prior = flow(2, couplings=6)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    generator = stream()

    def codes(count=256):
        labels = torch.arange(count) % 2
        angle = torch.rand(count, generator=generator) * 2 * torch.pi
        radius = 1 + 2 * labels + 0.1 * torch.randn(count, generator=generator)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels

    for _ in range(400):
        (-prior.log_density(*codes()).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        z, labels = codes(2000)
        best = log_normal(z, 0.0, (z.square().mean() * (1 + 8 * labels[:, None]) / 5).log()).mean()  # Gaussian of each class
        assert prior.log_density(z, labels).mean() > best + 0.5
        drawn = prior(torch.randn(2000, 2, generator=generator), labels).norm(dim=1)
    assert drawn[labels == 0].median().item() == pytest.approx(1, abs=0.15)
    assert drawn[labels == 1].median().item() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("make", [flow, gaussian])
def test_mixtures_of_classes_and_no_condition_are_taken(make):
    noise = torch.randn(4, 3, generator=stream(), dtype=torch.float64)
    prior = shaken(make())
    ends = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(prior(noise[:2], ends), prior(noise[:2], torch.arange(2)))
    free = shaken(make(condition=NoCondition()))
    assert free(noise, torch.empty(4, 0, dtype=torch.float64)).shape == noise.shape


def test_a_code_of_one_part_cannot_be_coupled():
    with pytest.raises(CondgenError, match=r"model\.generator\.latent"):
        FlowPrior(1, DIGITS, couplings=2, hidden=[8], embedding=OneHot)
