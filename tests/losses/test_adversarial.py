"""Adversarial losses against formulas written independently, in float64."""

import pytest
import torch
import torch.nn.functional as F

from condgen.losses.adversarial import BCE, LSGAN, Hinge, Minimax, RelativisticPaired, Wasserstein

LOGITS = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
REAL, FAKE = LOGITS
ONES, ZEROS = torch.ones_like(REAL), torch.zeros_like(REAL)
SEPARATE = [BCE, Minimax, LSGAN, Hinge, Wasserstein]


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


def test_wasserstein_is_a_difference_of_means():
    """The mean over all pairs of what D tells apart, which is the distance between the two point sets on a line if D is x."""
    pairs = (REAL[:, None] - FAKE[None, :]).mean()
    torch.testing.assert_close(Wasserstein().discriminator_loss(REAL, FAKE), -pairs)
    torch.testing.assert_close(Wasserstein().generator_loss(FAKE), FAKE.sum() / -50)
    assert Wasserstein.undecided is None and Wasserstein.unbounded
    shift = 7.0  # the same for all logits: nothing changes for D
    torch.testing.assert_close(Wasserstein().discriminator_loss(REAL + shift, FAKE + shift), -pairs)


def test_relativistic_pairs_by_place():
    """D says with probability s(real - fake) that the real one of a pair is the real one."""
    expected = cross_entropy(REAL - FAKE, ONES)
    torch.testing.assert_close(RelativisticPaired().discriminator_loss(REAL, FAKE), expected)
    torch.testing.assert_close(RelativisticPaired().generator_loss(FAKE, REAL), cross_entropy(FAKE - REAL, ONES))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(RelativisticPaired().discriminator_loss(REAL[order], FAKE[order]), expected)
    other = RelativisticPaired().discriminator_loss(REAL[order], FAKE)
    assert not torch.allclose(other, expected)
    assert RelativisticPaired.paired and RelativisticPaired.undecided is None and not RelativisticPaired.unbounded


@pytest.mark.parametrize("make", SEPARATE)
def test_what_is_not_paired_ignores_real_logits(make):
    assert not make.paired
    assert torch.equal(make().generator_loss(FAKE, REAL), make().generator_loss(FAKE))


@pytest.mark.parametrize("make", [*SEPARATE, RelativisticPaired])
def test_scale_is_the_discriminators_only(make):
    half, whole = make(scale=0.5), make()
    torch.testing.assert_close(half.discriminator_loss(REAL, FAKE), whole.discriminator_loss(REAL, FAKE) / 2)
    torch.testing.assert_close(half.generator_loss(FAKE, REAL), whole.generator_loss(FAKE, REAL))


@pytest.mark.parametrize("make", SEPARATE)
def test_batches_of_unequal_size_are_means(make):
    """Fake batches may be larger than real ones."""
    torch.testing.assert_close(make().discriminator_loss(REAL, FAKE.repeat(3)), make().discriminator_loss(REAL, FAKE))


@pytest.mark.parametrize("make", [BCE, Minimax, RelativisticPaired])
def test_confident_logits_stay_finite(make):
    """The sigmoid of 1e4 is 1 in any precision; its logarithm must not be taken."""
    for sign in (1, -1):
        logits = torch.full((3,), sign * 1e4, requires_grad=True)
        (make().discriminator_loss(logits, -logits) + make().generator_loss(logits, -logits)).backward()
        assert logits.grad.isfinite().all()


def test_where_the_generators_gradient_saturates():
    """D is sure that the sample is fake: minimax gives G next to nothing, the non-saturating loss its full gradient."""
    gradients = {}
    for make in (BCE, Minimax):
        logit = torch.tensor([-10.0], requires_grad=True)
        make().generator_loss(logit).backward()
        gradients[make] = logit.grad.item()
    assert gradients[BCE] == pytest.approx(-1, abs=1e-3) and -1e-3 < gradients[Minimax] < 0
