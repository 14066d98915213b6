"""Regularizers of the discriminator against gradients written by hand, in float64.

D is linear, w.x + v[c].x, whose gradient is w + v[c] everywhere; or quadratic, 1/2 x'Ax + b.x, whose gradient is Ax + b for a
symmetric A.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condgen.augment.diffaugment import DiffAugment
from condgen.losses.paired import L1
from condgen.losses.regularizers import R1, R2, Consistency, DiscriminatorStep, GradientPenalty, LeCam, Regularizers

STREAM = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, generator=STREAM, dtype=torch.float64)


REAL, FAKE, U = draw(6, 3), draw(6, 3), torch.rand(6, 1, generator=STREAM, dtype=torch.float64)
LABELS, ASKED = torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([1, 1, 0, 0, 1, 1])
HALF = draw(3, 3)
MATRIX, VECTOR = HALF + HALF.T, draw(3)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(VECTOR.clone()), nn.Parameter(draw(2, 3))

    def forward(self, x, condition):
        return x.flatten(1) @ self.w + (x.flatten(1) * self.v[condition]).sum(1)


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix, self.b = nn.Parameter(MATRIX.clone()), nn.Parameter(VECTOR.clone())

    def forward(self, x, condition):
        return 0.5 * torch.einsum("bi,ij,bj->b", x, self.matrix, x) + x @ self.b


def step(d, real=REAL, fake=FAKE, index=0, **logits):
    """Return an update of ``d``, in one process, whose random numbers are `U`."""
    logits = {"real_logits": d(real, LABELS), "fake_logits": d(fake, ASKED)} | logits
    sides = {"real": real, "condition": LABELS, "fake": fake, "fake_condition": ASKED}
    tools = {"discriminator": d, "eager_discriminator": d, "mean": lambda value: value}
    return DiscriminatorStep(index=index, **sides, **logits, **tools, uniform=lambda purpose, draws: U.expand(-1, draws))


# --- the gradient penalties ---


@pytest.mark.parametrize("make, x, c", [(R1, REAL, LABELS), (R2, FAKE, ASKED)])
def test_zero_centred_penalties(make, x, c):
    """Half the mean squared length of the gradient; also differentiated by D's parameters."""
    d = Linear()
    expected = sum(0.5 * (VECTOR + d.v.detach()[label]).square().sum() for label in c) / 6
    penalty = make().penalty(step(d))
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    torch.testing.assert_close(d.w.grad, VECTOR + d.v.detach()[c].mean(0))  # of 1/2 |w + v|^2 by w

    d = Quadratic()
    gradients = x @ MATRIX + VECTOR
    penalty = make().penalty(step(d))
    torch.testing.assert_close(penalty, 0.5 * gradients.square().sum() / 6)
    penalty.backward()
    torch.testing.assert_close(d.b.grad, gradients.mean(0))


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gradient_penalty(target):
    """Between the samples of a pair: at u of the way from the generated to the real one."""
    d = Linear()
    lengths = (VECTOR + d.v.detach()[LABELS]).square().sum(1).sqrt()
    torch.testing.assert_close(GradientPenalty(target=target).penalty(step(d)), (lengths - target).square().mean())

    d = Quadratic()
    between = torch.stack([u * real + (1 - u) * fake for u, real, fake in zip(U, REAL, FAKE, strict=True)])
    gradients = between @ MATRIX + VECTOR
    lengths = gradients.square().sum(1).sqrt()
    penalty = GradientPenalty(target=target).penalty(step(d))
    torch.testing.assert_close(penalty, (lengths - target).square().mean())
    penalty.backward()
    expected = (2 * (lengths - target) / lengths)[:, None] * gradients / 6
    torch.testing.assert_close(d.b.grad, expected.sum(0))


def test_gradient_penalty_uses_one_number_for_each_image():
    d = Linear()
    real, fake = REAL.view(6, 1, 3, 1), FAKE.view(6, 1, 3, 1)
    torch.testing.assert_close(GradientPenalty().penalty(step(d, real, fake)), GradientPenalty().penalty(step(d)))


def test_a_flat_discriminator_has_finite_gradients():
    """The length has no derivative at 0, where a fresh D with zero weights stands."""
    d = Linear()
    for parameter in d.parameters():
        parameter.data.zero_()
    penalty = GradientPenalty().penalty(step(d))
    penalty.backward()
    assert penalty.item() == 1 and d.w.grad.isfinite().all()


def test_attention_can_be_differentiated_twice():
    """The fast kernels of scaled_dot_product_attention have no second derivative."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(1, 4).double()

        def forward(self, x, condition):
            h = self.map(x[:, :, None])
            return F.scaled_dot_product_attention(h, h, h).square().sum((1, 2))

    d = Attention()
    R1().penalty(step(d)).backward()
    small = 1e-6
    raised = d(REAL + small * torch.eye(3, dtype=torch.float64)[0], LABELS) - d(REAL, LABELS)
    x = REAL.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(d(x, LABELS).sum(), x)
    torch.testing.assert_close(gradient[:, 0], raised.detach() / small, rtol=1e-4, atol=1e-4)
    assert d.map.weight.grad.isfinite().all() and d.map.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [R1, R2, GradientPenalty])
def test_penalties_leave_samples_and_generator_alone(make):
    d, real, fake = Quadratic(), REAL.clone(), FAKE.clone()
    make().penalty(step(d, real, fake)).backward()
    assert not real.requires_grad and not fake.requires_grad and real.grad is None
    assert torch.equal(real, REAL) and torch.equal(fake, FAKE)


# --- consistency ---


class Shift:
    """Adds its random number."""

    draws = 1

    def __call__(self, x, u):
        return x + u


def test_consistency_of_a_linear_discriminator():
    """D(x + u) - D(x) is u times the sum of the weights."""
    d = Linear()
    change = U[:, 0] * (VECTOR + d.v.detach()[LABELS]).sum(1)
    torch.testing.assert_close(Consistency([Shift()]).penalty(step(d)), change.square().mean())
    twice = Consistency([Shift(), Shift()]).penalty(step(d))
    torch.testing.assert_close(twice, 4 * change.square().mean())
    assert Consistency([]).penalty(step(d)).item() == 0


def test_consistency_takes_differentiable_augmentations():
    d, x = Linear(), draw(6, 1, 3, 1)
    augment = DiffAugment(saturation=0.0, contrast=0.0, translation=0.0, cutout=0.0)
    moved = (2 * U[:, 0] - 1) * 0.5 * (VECTOR + d.v.detach()[LABELS]).sum(1)
    torch.testing.assert_close(Consistency([augment]).penalty(step(d, x, x)), moved.square().mean())


# --- LeCam ---


def test_lecam_against_a_loop():
    """Plain running means at first, exponential ones once these would forget less than ``decay``."""
    regularizer, d = LeCam(decay=0.6).double(), Quadratic()
    reals, fakes = [], []
    for i in range(8):
        update = step(d, REAL + 0.1 * i, FAKE - 0.2 * i)
        reals.append(update.real_logits.detach().mean().item())
        fakes.append(update.fake_logits.detach().mean().item())
        penalty = regularizer.penalty(update)
        anchors = []
        for means in (reals, fakes):
            average = 0.0
            for n, mean in enumerate(means):
                past = min(0.6, n / (n + 1))
                average = past * average + (1 - past) * mean
            anchors.append(average)
        real, fake = update.real_logits.detach().tolist(), update.fake_logits.detach().tolist()
        expected = sum(max(0, logit - anchors[1]) ** 2 for logit in real) / 6
        expected += sum(max(0, anchors[0] - logit) ** 2 for logit in fake) / 6
        assert penalty.item() == pytest.approx(expected, rel=1e-9), i
    assert reals[:2] != reals[1:3] and (regularizer.real_anchor - regularizer.fake_anchor).abs() > 0.1


def test_lecams_anchors_are_constants():
    """The penalty pulls logits to the anchors, not anchors to the logits."""
    d, regularizer = Linear(), LeCam().double()
    real, fake = (torch.full((6,), value, dtype=torch.float64, requires_grad=True) for value in (3.0, 1.0))
    update = step(d, real_logits=real, fake_logits=fake)
    regularizer.penalty(update).backward()  # (3 - 1)^2 + (3 - 1)^2
    torch.testing.assert_close(real.grad, torch.full_like(real, 4 / 6))
    torch.testing.assert_close(fake.grad, torch.full_like(fake, -4 / 6))
    assert not any(value.requires_grad for value in regularizer.buffers())


def test_lecams_anchors_are_in_the_state():
    regularizer, fresh = LeCam(), LeCam()
    regularizer.penalty(step(Linear().double(), REAL, FAKE))
    fresh.load_state_dict(regularizer.state_dict())
    assert fresh.updates == 1 and fresh.real_anchor == regularizer.real_anchor != 0


# --- several, and lazily ---


def test_what_is_due_is_charged_with_its_weight_and_interval():
    """Over six updates lazy penalties are charged what eager ones are."""
    d = Quadratic()
    eager = Regularizers({"a": R1(weight=3.0), "b": GradientPenalty(weight=0.5)})
    lazy = Regularizers({"a": R1(weight=3.0, every=2), "b": GradientPenalty(weight=0.5, every=3)})
    a, b = R1().penalty(step(d)).item(), GradientPenalty().penalty(step(d)).item()
    charges = {}
    for name, regularizers in (("eager", eager), ("lazy", lazy)):
        results = [regularizers.penalties(step(d, index=index)) for index in range(6)]
        charges[name] = [torch.as_tensor(charge).item() for _, charge in results]
        recorded = [sorted(penalties) for penalties, _ in results]
    assert charges["eager"] == pytest.approx([3 * a + 0.5 * b] * 6)
    assert charges["lazy"] == pytest.approx([6 * a + 1.5 * b, 0, 6 * a, 1.5 * b, 6 * a, 0])
    assert sum(charges["lazy"]) == pytest.approx(sum(charges["eager"]))
    assert recorded == [["penalty_a", "penalty_b"], [], ["penalty_a"], ["penalty_b"], ["penalty_a"], []]
    assert results[0][0]["penalty_a"].item() == pytest.approx(a)  # recorded as it is


def test_distances_are_added_up_with_their_weights_and_penalties_are_not_among_them():
    several = Regularizers({"l1": L1(weight=3.0), "r1": R1(), "more": L1(weight=0.5)})
    found, total = several.distances(FAKE, REAL)
    distance = sum(abs(a - b) for a, b in zip(FAKE.flatten().tolist(), REAL.flatten().tolist(), strict=True)) / 18
    assert found.keys() == {"l1", "more"} and found["l1"].item() == pytest.approx(distance)
    assert total.item() == pytest.approx(3.5 * distance)
    assert several.penalties(step(Quadratic()))[0].keys() == {"penalty_r1"}


def test_what_is_differentiated_where_d_sees_patches_is_their_mean():
    def patches(x, condition):
        return torch.stack([x.sum(1), 3 * x.sum(1)], dim=1)  # (B, 2)

    assert R1().penalty(step(patches)).item() == pytest.approx(0.5 * 3 * 2**2)  # three values, each with a derivative of 2
