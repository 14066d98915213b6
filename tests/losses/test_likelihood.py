"""Dequantization and bits: pixels come back, the slope is autograd's, and known distributions have their known bits."""

import math

import pytest
import torch
from scipy import stats

from condgen.losses.likelihood import Likelihood, bits, log_normal
from condgen.spaces import to_float

PIXELS = to_float(torch.arange(256)).view(256, 1, 1, 1)
MARGINS = (0.0, 0.05, 0.004)


@pytest.mark.parametrize("margin", MARGINS)
def test_all_levels_come_back(margin):
    loss = Likelihood(margin)
    for u in (0.0, 1e-9, 0.5, 1 - 1e-9):
        y, _ = loss.dequantize(PIXELS, torch.full((256, 1, 1, 1), u + 1e-12, dtype=torch.float64))
        assert torch.equal(loss.quantize(y), PIXELS) and (y.flatten().diff() > 0).all()
    y, _ = loss.dequantize(PIXELS, torch.rand(256, 1, 1, 1) * 0.98 + 0.01)
    assert y.dtype == torch.float32 and torch.equal(loss.quantize(y), PIXELS)
    assert loss.quantize(torch.tensor([-1e3, 1e3])).tolist() == [-1, 1]


@pytest.mark.parametrize("margin", MARGINS)
def test_the_slope_is_that_of_autograd(margin):
    u = torch.rand(256, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    y, log_slope = Likelihood(margin).dequantize(PIXELS, u)
    (slope,) = torch.autograd.grad(y.sum(), u)
    torch.testing.assert_close(log_slope, (256 * slope).log().flatten())
    whole = Likelihood(margin).dequantize(PIXELS.view(4, 1, 8, 8), u.view(4, 1, 8, 8))[1]
    torch.testing.assert_close(whole, log_slope.view(4, 64).sum(1))


def test_pixels_of_equal_probability_have_eight_bits():
    """A standard logistic in the logit's space is uniform over the pixels, but for the share 2a beyond them."""
    margin = 0.01
    y, log_slope = Likelihood(margin).dequantize(PIXELS.view(4, 1, 8, 8), torch.rand(4, 1, 8, 8, dtype=torch.float64))
    log_density = torch.nn.functional.logsigmoid(torch.stack([y, -y])).sum((0, 2, 3, 4))
    found = bits(Likelihood(margin)(log_density, log_slope, 64), 64)
    torch.testing.assert_close(found, torch.full_like(found, 8 - math.log2(1 - 2 * margin)))


@pytest.mark.parametrize("sigma, gap", [(40.0, 2e-4), (2.0, 0.05)])
def test_the_bound_is_above_the_exact_value_and_close_to_it_for_a_wide_normal(sigma, gap):
    """Of N(127.5, sigma^2), cut into cells; the average over u is a sum over an even grid of it."""
    v, u = torch.arange(123, 132), (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    normal = stats.norm(127.5, sigma)
    exact = -torch.from_numpy(normal.cdf(v + 1) - normal.cdf(v)).log()
    loss = Likelihood(margin=0.0)
    y, log_slope = loss.dequantize(PIXELS[v].repeat_interleave(200, 0), u.repeat(len(v)).view(-1, 1, 1, 1))
    deviation = 2 * sigma / 256
    z = (y.flatten(1) - (2 * 127.5 / 256 - 1)) / deviation
    found = loss(log_normal(z) - math.log(deviation), log_slope, 1).view(-1, 200).mean(1)
    assert (found >= exact - 1e-6).all() and (found - exact).max() < gap
