"""The proof's parts: noise, clipping, sampling and accounting, each against a reference made by hand."""

import warnings
from functools import partial

import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import Tensor, nn

from condgen.conditions import ClassLabel, LearnedEmbedding, OneHot
from condgen.errors import CondgenError
from condgen.nets.conv import ConvDiscriminator
from condgen.nets.mlp import MLPDiscriminator
from condgen.nets.unet import UNet
from condgen.spaces import Images
from condgen.training.per_sample import Recorder, clipped_sum
from condgen.training.privacy import Privacy
from condgen.training.private import require_apart

CLASSES = ClassLabel([str(digit) for digit in range(10)])
SPACE = Images((1, 8, 8))
SIZE, COPIES = 5, 3


def shaken(network: nn.Module) -> nn.Module:
    """Return a network without the zeros that some layers start with."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def unet_losses(network: nn.Module) -> Tensor:
    """Return a loss (B,) of a velocity field, over several copies of each sample, always the same."""
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(SIZE, 1, 8, 8, generator=stream).repeat(COPIES, 1, 1, 1)
    condition = torch.randint(10, (SIZE,), generator=stream).repeat(COPIES)
    t, dropped = torch.rand(2, COPIES * SIZE, generator=stream)
    velocity = network(x, t, condition, dropped < 0.3)
    return (velocity - x).square().flatten(1).sum(1).view(COPIES, SIZE).mean(0)


def discriminator_losses(network: nn.Module) -> Tensor:
    """Return a loss (B,) of D for each real sample and a generated one, judged together."""
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(2 * SIZE, 1, 8, 8, generator=stream)
    real, fake = network(x, torch.arange(2 * SIZE)).chunk(2)
    return nn.functional.softplus(-real) + nn.functional.softplus(fake)


NETWORKS = {
    "unet": (
        lambda: UNet(CLASSES, SPACE, [8, 16], 1, 1, 4, 16, partial(LearnedEmbedding, width=4)),
        unet_losses,
    ),
    "mlp": (lambda: MLPDiscriminator(CLASSES, SPACE, hidden=[16, 8], embedding=OneHot), discriminator_losses),
    "conv": (
        lambda: ConvDiscriminator(CLASSES, SPACE, projection=True, width=4, depth=2, embedding=None),
        discriminator_losses,
    ),
}


def by_hand(network: nn.Module, losses: Tensor) -> list[list[Tensor]]:
    """Return each sample's gradient, by a backward pass of its own."""
    parameters = list(network.parameters())
    return [list(torch.autograd.grad(loss, parameters, retain_graph=True)) for loss in losses]


def norm(gradient: list[Tensor]) -> Tensor:
    """Return the norm of all parts together."""
    return torch.cat([part.flatten() for part in gradient]).norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_clipped_sum_is_that_of_gradients_made_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    make, losses_of = NETWORKS[name]
    network = shaken(make())
    each = by_hand(network, losses_of(network))
    norms = torch.stack([norm(gradient) for gradient in each])
    clip = float(norms.median())
    recorder = Recorder([network])
    with recorder.recording():
        losses = losses_of(network)
    torch.testing.assert_close(recorder.norms(losses), norms, rtol=1e-4, atol=1e-5)
    total, _ = clipped_sum(recorder, lambda: losses_of(network), list(network.parameters()), clip)
    factors = (clip / norms).clamp(max=1)
    for found, parts in zip(total, zip(*each, strict=True), strict=True):
        wanted = torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum(0)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("outlier", [1.0, 1e4])
def test_no_sample_moves_the_sum_by_more_than_the_clip(outlier: float) -> None:
    torch.manual_seed(0)
    network = MLPDiscriminator(CLASSES, SPACE, hidden=[16], embedding=OneHot)
    x, condition = torch.randn(SIZE, 1, 8, 8), torch.arange(SIZE)
    x[-1] *= outlier

    def total(count: int) -> list[Tensor]:
        def losses_of() -> Tensor:
            return network(x[:count], condition[:count]).square()

        return clipped_sum(Recorder([network]), losses_of, list(network.parameters()), 0.5)[0]

    moved = [one - other for one, other in zip(total(SIZE), total(SIZE - 1), strict=True)]
    assert norm(moved) <= 0.5 * (1 + 1e-5)
    if outlier == 1e4:
        torch.testing.assert_close(norm(moved), torch.tensor(0.5), rtol=1e-3, atol=0)  # and so much it may move it


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    network = MLPDiscriminator(CLASSES, SPACE, hidden=[16], embedding=OneHot)
    x = torch.full((2, 1, 8, 8), float("inf"))
    with pytest.raises(CondgenError, match="not finite"):
        clipped_sum(Recorder([network]), lambda: network(x, torch.arange(2)), list(network.parameters()), 1.0)


def test_a_weight_used_outside_its_layer_is_refused() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.layer.weight).sum(1)

    network = Tied()
    with pytest.raises(CondgenError, match="outside the layers that hold them"):
        clipped_sum(Recorder([network]), lambda: network(torch.randn(3, 4)), list(network.parameters()), 1.0)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))])
def test_layers_that_break_the_proof_are_refused(layer: nn.Module) -> None:
    with pytest.raises(CondgenError, match=r"privacy needs each sample's own gradient"):
        require_apart([nn.Sequential(layer)])


@pytest.mark.parametrize(("name", "accountant"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_is_opacus_own_step_by_step(name: str, accountant: type) -> None:
    privacy = Privacy(epsilon=50, delta=1e-5, accountant=name, noise=1.1)  # type: ignore[arg-type]
    privacy.prepare(1000, 0.01, 30)
    theirs = accountant()
    for _ in range(30):
        theirs.step(noise_multiplier=1.1, sample_rate=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert privacy.spent(30) == theirs.get_epsilon(delta=1e-5)


def test_the_noise_found_spends_the_budget_and_no_more() -> None:
    privacy = Privacy(epsilon=2, delta=1e-5, accountant="rdp")
    plan = privacy.prepare(60_000, 0.01, 500)
    assert 1.9 < privacy.spent(500) <= 2
    assert privacy.spent(250) < privacy.spent(500)
    with pytest.raises(CondgenError, match="no further one is made"):
        privacy.require_left(501)
    with pytest.raises(CondgenError, match="would spend an epsilon of"):
        Privacy(epsilon=2, delta=1e-5, accountant="rdp", noise=plan.noise / 2).prepare(60_000, 0.01, 500)
    with pytest.raises(CondgenError, match="given away whole"):
        Privacy(delta=1e-3, accountant="rdp").prepare(60_000, 0.01, 500)


def test_another_plan_does_not_go_on() -> None:
    privacy = Privacy(epsilon=2, accountant="rdp", noise=2.0)
    privacy.prepare(60_000, 0.01, 500)
    stored = privacy.state(100)
    privacy.require_same(stored, 100)
    privacy.prepare(60_000, 0.01, 600)
    with pytest.raises(CondgenError, match="steps=500, and this would go on with 600"):
        privacy.require_same(stored, 100)


def test_noise_and_sampling_have_their_distributions_and_repeat() -> None:
    privacy = Privacy(epsilon=100, accountant="rdp", noise=1.5, secret=7)
    privacy.prepare(60_000, 0.01, 10)
    noise = privacy.noisy([torch.zeros(100_000)], 2.0, 0, 3)[0]
    assert abs(noise.std().item() / (1.5 * 2.0) - 1) < 0.01
    assert abs(noise.mean().item()) < 0.05
    torch.testing.assert_close(noise, privacy.noisy([torch.zeros(100_000)], 2.0, 0, 3)[0])
    assert not torch.equal(noise, privacy.noisy([torch.zeros(100_000)], 2.0, 0, 4)[0])
    sizes = torch.tensor([float(len(privacy.sampled(10_000, 0.02, 0, batch))) for batch in range(200)])
    assert abs(sizes.mean().item() - 200) < 4  # binomial: deviation 14, of the mean 1
    assert 11 < sizes.std().item() < 17
