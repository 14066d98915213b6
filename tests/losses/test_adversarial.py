"""Adversarial losses against formulas written independently, in float64."""

import pytest
import torch
import torch.nn.functional as F

from condgen.losses.adversarial import BCE, LSGAN, Hinge, Minimax

LOGITS = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
REAL, FAKE = LOGITS
ONES, ZEROS = torch.ones_like(REAL), torch.zeros_like(REAL)


def cross_entropy(logits, target):
    return F.binary_cross_entropy(logits.sigmoid(), target)


@pytest.mark.parametrize("loss", [BCE(), Minimax()])
def test_the_discriminators_cross_entropy(loss):
    expected = cross_entropy(REAL, ONES) + cross_entropy(FAKE, ZEROS)
    torch.testing.assert_close(loss.discriminator_loss(REAL, FAKE), expected)


def test_the_non_saturating_generator():
    torch.testing.assert_close(BCE().generator_loss(FAKE), cross_entropy(FAKE, ONES))


def test_minimax_is_a_zero_sum_game():
    torch.testing.assert_close(Minimax().generator_loss(FAKE), torch.log(1 - FAKE.sigmoid()).mean())
    torch.testing.assert_close(Minimax().generator_loss(FAKE), -cross_entropy(FAKE, ZEROS))


def test_least_squares():
    torch.testing.assert_close(LSGAN().discriminator_loss(REAL, FAKE), F.mse_loss(REAL, ONES) + F.mse_loss(FAKE, ZEROS))
    torch.testing.assert_close(LSGAN().generator_loss(FAKE), F.mse_loss(FAKE, ONES))


def test_hinge():
    zeros = torch.zeros_like(REAL)
    expected = torch.maximum(zeros, 1 - REAL).mean() + torch.maximum(zeros, 1 + FAKE).mean()
    torch.testing.assert_close(Hinge().discriminator_loss(REAL, FAKE), expected)
    torch.testing.assert_close(Hinge().generator_loss(FAKE), -FAKE.mean())
    beyond = torch.full((4,), 2.0, requires_grad=True)  # D gains nothing by being surer than its margin
    Hinge().discriminator_loss(beyond, -beyond).backward()
    assert torch.equal(beyond.grad, torch.zeros(4))


@pytest.mark.parametrize("make", [BCE, Minimax, LSGAN, Hinge])
def test_scale_is_the_discriminators_only(make):
    half, whole = make(scale=0.5), make()
    torch.testing.assert_close(half.discriminator_loss(REAL, FAKE), whole.discriminator_loss(REAL, FAKE) / 2)
    torch.testing.assert_close(half.generator_loss(FAKE), whole.generator_loss(FAKE))


@pytest.mark.parametrize("make", [BCE, Minimax, LSGAN, Hinge])
def test_batches_of_unequal_size_are_means(make):
    """Fake batches may be larger than real ones."""
    torch.testing.assert_close(make().discriminator_loss(REAL, FAKE.repeat(3)), make().discriminator_loss(REAL, FAKE))


@pytest.mark.parametrize("make", [BCE, Minimax])
def test_confident_logits_stay_finite(make):
    """The sigmoid of 1e4 is 1 in any precision; its logarithm must not be taken."""
    for sign in (1, -1):
        logits = torch.full((3,), sign * 1e4, requires_grad=True)
        (make().discriminator_loss(logits, logits) + make().generator_loss(logits)).backward()
        assert logits.grad.isfinite().all()


def test_where_the_generators_gradient_saturates():
    """D is sure that the sample is fake: minimax gives G next to nothing, the non-saturating loss its full gradient."""
    gradients = {}
    for make in (BCE, Minimax):
        logit = torch.tensor([-10.0], requires_grad=True)
        make().generator_loss(logit).backward()
        gradients[make] = logit.grad.item()
    assert gradients[BCE] == pytest.approx(-1, abs=1e-3) and -1e-3 < gradients[Minimax] < 0
