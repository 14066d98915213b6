"""Reconstruction losses against torch.distributions and normal distribution functions, in float64."""

import math

import pytest
import torch
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Normal

from condgen.losses.reconstruction import Bernoulli, Gaussian, SquaredError

STREAM = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(6, 40, generator=STREAM, dtype=torch.float64) * 2
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def targets(kind):
    if kind == "binary":
        return (torch.rand(6, 40, generator=STREAM, dtype=torch.float64) < 0.5).double()
    return torch.randint(0, 256, (6, 40), generator=STREAM).double() / 255


def test_bernoulli():
    target = targets("binary")
    expected = -BernoulliDistribution(logits=OUTPUTS).log_prob(target).sum(1)
    torch.testing.assert_close(Bernoulli()(OUTPUTS, target), expected)
    assert Bernoulli().density is None


def test_drawn_pixels_are_white_as_often_as_they_are_grey():
    grey = torch.linspace(-1, 1, 11).repeat(20_000, 1)
    loss = Bernoulli(binarize=True)
    drawn = loss.observed(grey, lambda: torch.rand(grey.shape, generator=torch.Generator().manual_seed(0)))
    assert drawn.unique().tolist() == [-1, 1] and loss.density == "bits"
    torch.testing.assert_close(drawn.mean(0), grey[0], rtol=0, atol=0.03)  # 4 standard errors
    assert torch.equal(drawn[:, [0, -1]], grey[:, [0, -1]])  # black and white stay
    assert Bernoulli().observed(grey, pytest.fail) is grey


def test_squared_error_by_hand():
    outputs = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)  # sigmoids 1/2 and 3/4
    target = torch.tensor([[1.0, 0.25]], dtype=torch.float64)
    assert SquaredError()(outputs, target).tolist() == pytest.approx([0.25 + 0.25])
    assert SquaredError().mean(outputs)[0].tolist() == pytest.approx([0.5, 0.75])


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.7])
def test_gaussian(sigma):
    loss, target = Gaussian(sigma).double(), targets("grey")
    torch.testing.assert_close(
        loss(OUTPUTS, target), -Normal(OUTPUTS.sigmoid(), sigma).log_prob(target).sum(1), rtol=1e-6, atol=0
    )
    assert loss.density is None


def test_the_best_sigma_is_the_root_of_the_mean_squared_error():
    """What the learned scale converges to (Rybkin et al. 2021, equation 5)."""
    loss, target = Gaussian(0.1).double(), targets("grey")
    error = (OUTPUTS.sigmoid() - target).square().mean().sqrt()
    loss.log_sigma.data = error.log()
    loss(OUTPUTS, target).mean().backward()
    assert abs(loss.log_sigma.grad.item()) < 1e-9
    loss.log_sigma.grad = None
    loss.log_sigma.data += 0.3
    loss(OUTPUTS, target).mean().backward()
    assert loss.log_sigma.grad.item() > 1


def test_sigma_has_a_floor():
    """Saturated pixels would let the density grow without bound."""
    target = targets("binary")
    at_floor = [Gaussian(sigma).double()(target * 1e9 - 5e8, target) for sigma in (1 / 255, 1e-5)]
    torch.testing.assert_close(at_floor[0], at_floor[1])


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("output", [-20.0, -3.0, 0.0, 0.7, 6.0])
def test_the_discretized_gaussian_sums_to_one(sigma, output):
    loss = Gaussian(sigma, discretized=True).double()
    masses = (-loss(torch.full((256, 1), output, dtype=torch.float64), LEVELS[:, None])).exp()
    assert loss.density == "levels" and masses.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.6])
def test_the_discretized_gaussian_is_a_difference_of_distribution_functions(sigma):
    loss = Gaussian(sigma, discretized=True).double()
    normal = Normal(torch.tensor(0.4, dtype=torch.float64), loss.log_sigma.detach().exp())
    output = torch.logit(torch.tensor(0.4, dtype=torch.float64))
    low, high = normal.cdf(LEVELS - 0.5 / 255), normal.cdf(LEVELS + 0.5 / 255)
    low[0], high[-1] = 0, 1
    plain = high - low
    ours = (-loss(output.expand(256, 1), LEVELS[:, None])).exp()
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.001, 0.01, 0.5])
def test_the_tails_keep_their_gradient(dtype, sigma):
    """Hundreds of sigmas away every probability underflows; the loss is still finite and points home."""
    loss = Gaussian(sigma, discretized=True).to(dtype)
    for output, home in ((-30.0, 1), (0.0, 1), (0.0, 0), (30.0, 0)):
        outputs = torch.full((256, 1), output, dtype=dtype, requires_grad=True)
        per_level = loss(outputs, LEVELS[:, None].to(dtype))
        per_level.sum().backward()
        assert per_level.isfinite().all() and (per_level >= -1e-6).all(), (output, home)
        assert outputs.grad.isfinite().all() and loss.log_sigma.grad.isfinite().all()
        if output == 0:  # the mean 1/2 is drawn towards the target
            assert torch.sign(outputs.grad[255 * home]).item() == (-1 if home else 1)


def test_the_tail_has_its_asymptotic_value():
    """log F(-t) ~ -t^2 / 2 - log(t sqrt(2 pi)): no clamp has cut it off."""
    loss = Gaussian(0.01, discretized=True).double()
    outputs = torch.zeros(1, 1, dtype=torch.float64)
    near_edge = (0.5 - 10 / 255 - 0.5 / 255) / 0.01  # sigmas from the mean 1/2 to the upper edge of level 10
    expected = near_edge**2 / 2 + math.log(near_edge * math.sqrt(2 * math.pi))
    assert loss(outputs, LEVELS[10].view(1, 1)).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("make", [Bernoulli, SquaredError, Gaussian, lambda: Gaussian(discretized=True)])
def test_pixels_are_summed_and_samples_kept_apart(make):
    loss, target = make().double(), targets("grey")
    whole = loss(OUTPUTS, target)
    assert whole.shape == (6,)
    torch.testing.assert_close(whole, loss(OUTPUTS[:, :17], target[:, :17]) + loss(OUTPUTS[:, 17:], target[:, 17:]))
    torch.testing.assert_close(whole[2:3], loss(OUTPUTS[2:3], target[2:3]))
    assert (loss.mean(OUTPUTS) == OUTPUTS.sigmoid()).all()
