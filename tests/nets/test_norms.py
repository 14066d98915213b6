"""Batch norm and instance norm whose gain and bias depend on the condition."""

import pytest
import torch
from torch import nn

from condgen.nets.norms import ConditionalBatchNorm, ConditionalInstanceNorm


def trained(width: int) -> ConditionalBatchNorm:
    """Return a norm whose maps have moved away from zero."""
    torch.manual_seed(0)
    norm = ConditionalBatchNorm(5, width).double()
    for layer in (norm.gain, norm.bias):
        nn.init.normal_(layer.weight)
    return norm


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 5, 4, 4, generator=torch.Generator().manual_seed(1)).double() * 3 + 2


@pytest.mark.parametrize("training", [True, False])
def test_it_begins_as_plain_batch_norm(training):
    norm, plain = ConditionalBatchNorm(5, 3).double().train(training), nn.BatchNorm2d(5).double().train(training)
    v = torch.randn(6, 3).double()
    for _ in range(3):
        assert torch.equal(norm(images(), v), plain(images()))
    assert torch.equal(norm.norm.running_var, plain.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_with_a_constant_condition_it_is_batch_norm_with_that_gain_and_bias(training):
    norm = trained(3).train(training)
    v = torch.tensor([0.3, -1.2, 0.7]).double()
    plain = nn.BatchNorm2d(5).double().train(training)
    with torch.no_grad():
        plain.weight.copy_(1 + norm.gain.weight @ v)
        plain.bias.copy_(norm.bias.weight @ v)
    for _ in range(3):
        torch.testing.assert_close(norm(images(), v.expand(6, 3)), plain(images()))
    assert torch.equal(norm.norm.running_mean, plain.running_mean)


def test_each_class_has_a_gain_and_a_bias_but_all_share_the_statistics():
    norm, x, labels = trained(3), images(), [0, 1, 2, 2, 1, 0]
    y = norm(x, torch.eye(3).double()[labels])
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    for i, label in enumerate(labels):
        for channel in range(5):
            normal = (x[i, channel] - mean[channel]) / (variance[channel] + 1e-5).sqrt()
            expected = (1 + norm.gain.weight[channel, label]) * normal + norm.bias.weight[channel, label]
            torch.testing.assert_close(y[i, channel], expected)


def test_without_a_condition_gain_and_bias_are_parameters():
    norm = ConditionalBatchNorm(5, 0)
    assert sorted(name for name, _ in norm.named_parameters()) == ["norm.bias", "norm.weight"]
    assert norm(images().float(), torch.empty(6, 0)).shape == (6, 5, 4, 4)


def test_the_maps_learn_from_the_first_step():
    norm = ConditionalBatchNorm(5, 3)
    norm(images().float(), torch.randn(6, 3)).square().sum().backward()
    assert norm.gain.weight.grad.abs().max() > 0
    norm.zero_grad()
    norm(images().float(), torch.randn(6, 3)).pow(3).sum().backward()
    assert norm.bias.weight.grad.abs().max() > 0


def test_instance_norm_sets_mean_and_deviation_of_each_image_by_its_style():
    torch.manual_seed(0)
    norm = ConditionalInstanceNorm(3, 2)
    nn.init.normal_(norm.gain.weight)
    nn.init.normal_(norm.bias.weight)
    y = norm(torch.randn(2, 3, 8, 8) * 5 + 2, torch.eye(2))
    torch.testing.assert_close(y.mean((2, 3)), norm.bias.weight.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((2, 3), correction=0), (1 + norm.gain.weight.T).abs(), atol=1e-3, rtol=1e-3)
