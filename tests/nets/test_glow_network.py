"""Glow's network: each layer and the whole are inverted exactly, log-determinants are those of autograd's Jacobian."""

from functools import partial
from typing import Any

import pytest
import torch

from condgen.conditions import ClassLabel, Codes, Condition, LearnedEmbedding, NoCondition, OneHot
from condgen.errors import CondgenError
from condgen.nets.glow import Convolutions, Dense, Flow
from condgen.nets.invertible import ActNorm, Base, Coupling, Mix
from condgen.spaces import Images, Points

THREE = ClassLabel(["a", "b", "c"])
CODES = Codes(categories=[2], continuous=1)


def flow(shape: tuple[int, ...] = (1, 8, 8), condition: Condition = THREE, **changes: Any) -> Flow:
    """A small flow in float64, away from its start as the identity."""
    torch.manual_seed(0)
    options = {"steps": [1, 2], "fine": partial(Convolutions, width=6), "coarse": partial(Dense, width=8)}
    embedding = partial(LearnedEmbedding, width=4)
    return shaken(Flow(condition, Images(shape), **(options | {"embedding": embedding} | changes)))


def shaken(module: Any) -> Any:
    """Move all weights, so that nothing is zero that starts at zero."""
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3) if not parameter.any() else parameter.data.mul_(1.1)
    return module


def double(condition: torch.Tensor) -> torch.Tensor:
    """Return encoded conditions in float64, where they are no classes."""
    return condition.double() if condition.is_floating_point() else condition


def volume(function: Any, x: torch.Tensor) -> torch.Tensor:
    """Return log |det| of the Jacobian of each sample, (B,), by autograd."""

    def flat(sample: torch.Tensor) -> torch.Tensor:
        return function(sample.view(1, *x.shape[1:])).flatten()

    jacobians = [torch.autograd.functional.jacobian(flat, sample.flatten()) for sample in x]
    return torch.stack([torch.linalg.slogdet(jacobian)[1] for jacobian in jacobians])


@pytest.mark.parametrize(
    "layer",
    [
        lambda: ActNorm(4),
        lambda: Mix(4),
        lambda: Base((4, 3, 2), 5),
        lambda: Coupling(4, (3, 2), 5, partial(Convolutions, width=7)),
        lambda: Coupling(4, (3, 2), 5, partial(Dense, width=7)),
    ],
)
def test_each_layer_is_inverted_and_knows_its_volume(layer):
    torch.manual_seed(1)
    layer = shaken(layer())
    x, v = torch.randn(3, 4, 3, 2, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    y, log_determinant = layer(x, v)
    assert log_determinant.shape == (3,) and (y - x).abs().max() > 0.1
    torch.testing.assert_close(layer.inverse(y, v), x)
    expected = torch.cat([volume(lambda s, i=i: layer(s, v[i : i + 1])[0], x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(log_determinant, expected)


@pytest.mark.parametrize(
    "shape, condition, changes",
    [
        ((1, 8, 8), THREE, {}),
        ((3, 4, 8), THREE, {"coarse": partial(Convolutions, width=5), "embedding": OneHot}),
        ((1, 8, 8), NoCondition(), {}),
        ((1, 8, 8), CODES, {"steps": [1, 1, 1]}),
        ((1, 4, 4), THREE, {"embedding": None, "steps": [2]}),
    ],
)
def test_the_whole_is_inverted_and_knows_its_volume(shape, condition, changes):
    network = flow(shape, condition, **changes)
    x, asked = torch.randn(2, *shape, dtype=torch.float64), double(condition.draw(2, torch.Generator().manual_seed(0)))
    z, log_determinant = network(x, asked)
    assert z.shape == (2, x[0].numel())
    assert (network.inverse(z, asked) - x).abs().max() < 1e-9
    noise = torch.randn_like(z)
    assert (network(network.inverse(noise, asked), asked)[0] - noise).abs().max() < 1e-9
    expected = torch.cat([volume(lambda s, i=i: network(s, asked[i : i + 1])[0], x[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(log_determinant, expected)


@pytest.mark.parametrize("condition", [THREE, CODES])
def test_every_weight_learns_and_the_condition_acts_at_every_level(condition):
    network = flow(condition=condition)
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64).expand(2, -1, -1, -1)
    z, log_determinant = network(x, double(condition.every()[:2]))
    (z.square().sum() - log_determinant.sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    for part in z.split([32, 32], dim=1):  # what leaves at each level
        assert (part[0] - part[1]).abs().max() > 1e-3


def test_it_starts_as_a_rotation_of_standardized_data():
    """The activation norms see mean 0 and variance 1, once; couplings and base begin as identities."""
    torch.manual_seed(0)
    network = Flow(THREE, Images((1, 8, 8)), [2, 1], partial(Convolutions, width=6), partial(Dense, width=8), None)
    x, asked = 3 * torch.randn(500, 1, 8, 8) + torch.linspace(-5, 5, 8), torch.zeros(500, dtype=torch.int64)
    seen: list[torch.Tensor] = []
    network.fit(x, asked)
    norms = [module for module in network.modules() if isinstance(module, ActNorm)]
    hooks = [norm.register_forward_hook(lambda norm, inputs, outputs: seen.append(outputs[0])) for norm in norms]
    network(x, asked)
    assert len(seen) == 3
    for y in seen:
        assert y.mean((0, 2, 3)).abs().max() < 1e-4
        torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(y.shape[1]), rtol=1e-3, atol=1e-3)
    before = [parameter.clone() for parameter in network.parameters()]
    network.fit(2 * x + 1, asked)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    norms[1].mean.data.zero_(), norms[1].log_scale.data.zero_()  # as where a checkpoint did not fit
    network.fit(2 * x + 1, asked)
    changed = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert sum(changed) == 2
    [hook.remove() for hook in hooks]


def test_under_autocast_only_the_couplings_are_narrower():
    x, asked = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, log_determinant = flow().float()(x, asked)
        kept = Mix(4)(x.view(2, 4, 4, 4), asked)[0]
    assert z.dtype == log_determinant.dtype == kept.dtype == torch.float32


@pytest.mark.parametrize(
    "space, changes, words",
    [
        (Points(), {}, "not points: set model=flow_points"),
        (Images((1, 28, 30)), {}, "multiples of 4, not 28x30"),
        (Images((1, 28, 28)), {"steps": [1, 1, 1]}, "multiples of 8, not 28x28"),
    ],
)
def test_what_cannot_be_squeezed_is_refused(space, changes, words):
    options = {"steps": [1, 1], "fine": partial(Convolutions, width=6), "coarse": partial(Dense, width=8), "embedding": None}
    with pytest.raises(CondgenError, match=words):
        Flow(THREE, space, **(options | changes))
