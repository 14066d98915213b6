"""What a GAN can be given besides a loss: regularizers and augmentation of what D sees; what cannot work is refused."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from recipes import batches, fit, make_model, weights
from torch import nn

from condgen.errors import CondgenError
from condgen.losses.adversarial import Wasserstein
from condgen.randomness import generator as keyed_generator
from condgen.training.gan_checks import check_regularizers

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RATE = 0.1
SGD = [
    f"model.{player}_optimizer={{_target_: torch.optim.SGD, _partial_: true, lr: {RATE}}}"
    for player in ("generator", "discriminator")
]
SGD += [f"~model.{player}_optimizer.{key}" for player in ("generator", "discriminator") for key in ("betas", "fused")]


def descend(network, loss):
    """A step of plain gradient descent."""
    with torch.no_grad():
        for p, gradient in zip(network.parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True):
            p -= RATE * gradient


def noise(epoch=0, batch=0, size=4):
    return torch.randn(size, 100, generator=keyed_generator(0, "noise", epoch, batch))


def uniform(purpose, draws, batch=0, size=4):
    return torch.rand(size, draws, generator=keyed_generator(0, purpose, 0, batch))


class Eye:
    """Records what D sees and the conditions that come with it."""

    def __init__(self, model):
        self.seen = []
        judge = model.judge

        def watched(*arguments):
            self.seen.append(arguments)
            return judge(*arguments)

        model.judge = watched


# --- the objectives ---


def test_one_update_with_r1_by_hand():
    ((x, condition),) = data = batches(1)
    model, twin = (make_model("model=cgan_mlp", "regularizer=r1", "model.regularizers.r1.weight=3", *SGD) for _ in range(2))
    trainer = fit(model, data, log_every_n_steps=1)
    g, d = twin.generator, twin.discriminator
    fake = g(noise(), condition).detach()
    loss = -d(x, condition).sigmoid().log().mean() - (1 - d(fake, condition).sigmoid()).log().mean()
    point = x.clone().requires_grad_()
    slopes = torch.autograd.grad(d(point, condition).sum(), point, create_graph=True)[0]
    squares = sum(slope.square().sum() for slope in slopes) / 4
    descend(d, loss + 3 / 2 * squares)
    torch.testing.assert_close(weights(model.discriminator), weights(d))
    assert model.latest["penalty_r1"] == pytest.approx(squares.item() / 2, rel=1e-5)
    assert model.latest["loss_d"] == pytest.approx(loss.item(), rel=1e-5)  # the game alone
    assert trainer.global_step == 1


def test_one_update_of_the_relativistic_pair_by_hand():
    ((x, condition),) = data = batches(1)
    model, twin = (make_model("model=cgan_mlp", "loss=relativistic", *SGD) for _ in range(2))
    fit(model, data)
    g, d = twin.generator, twin.discriminator
    fake = g(noise(), condition).detach()
    descend(d, -(d(x, condition) - d(fake, condition)).sigmoid().log().mean())
    torch.testing.assert_close(weights(model.discriminator), weights(d))
    descend(g, -(d(g(noise(), condition), condition) - d(x, condition)).sigmoid().log().mean())
    torch.testing.assert_close(weights(model.generator), weights(g))


@pytest.mark.parametrize("loss, passes", [("hinge", 2), ("relativistic", 3)])
def test_only_a_paired_loss_pays_for_real_logits(loss, passes):
    model = make_model("model=cgan_mlp", f"loss={loss}")
    eye = Eye(model)
    fit(model, batches(1))
    assert len(eye.seen) == passes


def test_regularizers_are_added_up_and_recorded_by_their_names():
    names = ["r1", "r2", "gp", "lecam", "consistency"]
    model = make_model("model=cgan_conv", f"regularizer=[{','.join(names)}]")
    fit(model, batches(2))
    assert model.latest.keys() == {"loss_d", "loss_g", *(f"penalty_{name}" for name in names)}
    assert all(value > 0 for name, value in model.latest.items() if name.startswith("penalty"))
    fit(without := make_model("model=cgan_conv", "regularizer=[r1,r2]", "model.regularizers.r1=null"), batches(1))
    assert without.latest.keys() == {"loss_d", "loss_g", "penalty_r2"}


def gradients(*overrides):
    """D's gradient in each of twelve turns, three epochs, on one batch, while D stands still."""
    model = make_model("model=cgan_mlp", *overrides, *SGD, "model.discriminator_optimizer.lr=0")
    found: list[torch.Tensor] = []

    def note(parameters, largest):
        listed = list(parameters)
        if listed[0] is next(model.discriminator.parameters()):
            found.append(torch.cat([p.grad.flatten() for p in listed]))

    with patch("condgen.training.gan.clip", note):
        fit(model, batches(1) * 4, max_epochs=3)
    return torch.stack(found), model.latest["penalty_r1"] if overrides else 0


def test_lazy_regularization_has_the_mean_of_the_eager_one():
    """One turn in three, three times as much; turns are counted through epochs."""
    plain, _ = gradients()
    eager, value = gradients("regularizer=r1", "model.regularizers.r1.weight=100")
    lazy, same_value = gradients("regularizer=r1", "model.regularizers.r1.weight=100", "model.regularizers.r1.every=3")
    assert same_value == pytest.approx(value, rel=1e-5)  # what is recorded does not depend on every
    torch.testing.assert_close(lazy.mean(0), eager.mean(0), rtol=1e-4, atol=1e-6)
    penalized = (lazy - plain).abs().amax(1) > 1e-6
    assert penalized.tolist() == [True, False, False] * 4
    torch.testing.assert_close(lazy[0] - plain[0], 3 * (eager[0] - plain[0]), rtol=1e-4, atol=1e-6)
    assert (eager - plain).norm() > 0.01 * plain.norm()


# --- augmentation ---


def test_all_that_discriminators_see_is_augmented_alike():
    model = make_model("model=cgan_mlp", "discriminator_augment=diffaugment", "model.discriminator_optimizer.lr=0")
    eye = Eye(model)
    ((x, condition),) = batches(1)
    fake = model.generator(noise(), condition).detach()
    fit(model, [(x, condition)])
    both, generators = (seen for seen, _ in eye.seen)
    augment = model.augment
    purposes = ("augment real", "augment fake", "augment generator")
    numbers = [uniform(purpose, augment.draws) for purpose in purposes]
    torch.testing.assert_close(both[:4], augment(x, numbers[0]))
    torch.testing.assert_close(both[4:], augment(fake, numbers[1]))
    torch.testing.assert_close(generators, augment(fake, numbers[2]))
    assert not torch.equal(both[:4], x) and not torch.equal(numbers[0], numbers[1])


def test_the_generator_learns_through_the_augmentation():
    ((_, condition),) = data = batches(1)
    overrides = ("model=cgan_mlp", "discriminator_augment=diffaugment", *SGD, "model.discriminator_optimizer.lr=0")
    model, twin = make_model(*overrides), make_model(*overrides)
    fit(model, data)
    g, d = twin.generator, twin.discriminator
    seen = twin.augment(g(noise(), condition), uniform("augment generator", 7))
    descend(g, -d(seen, condition).sigmoid().log().mean())
    torch.testing.assert_close(weights(model.generator), weights(g))
    assert model.sample(3).shape == (1, 1, 28, 28)


def test_penalties_are_of_the_discriminator_behind_its_augmentation():
    """The slope by x of D(T(x)): where T cuts out, it is 0."""
    model = make_model(
        "model=cgan_mlp", "regularizer=r1", "discriminator_augment=diffaugment", "model.discriminator_optimizer.lr=0"
    )
    ((x, condition),) = batches(1)
    twin = make_model("model=cgan_mlp").discriminator
    fit(model, [(x, condition)], log_every_n_steps=1)
    point = x.clone().requires_grad_()
    seen = model.augment(point, uniform("augment real", 7))
    (slope,) = torch.autograd.grad(twin(seen, condition).sum(), point)
    assert model.latest["penalty_r1"] == pytest.approx(slope.square().sum().item() / 8, rel=1e-4)


# --- what they must work with ---


def test_a_compiled_discriminator_can_be_penalized(monkeypatch):
    """What torch.compile makes cannot be differentiated twice: penalties pass by it, everything else does not."""
    compile_anything, compiled = torch.compile, []

    def quickly(what: Any, mode: str | None = None, **options: Any) -> Any:
        compiled.append(mode)
        return compile_anything(what, backend="aot_eager")  # the part of the compiler that differentiates

    monkeypatch.setattr(torch, "compile", quickly)
    overrides = ("model=cgan_mlp", "regularizer=[r1,gp]", "loss=wasserstein")
    models = [make_model(*overrides, f"model.compile={compile}") for compile in ("true", "false")]
    for model in models:
        fit(model, batches(2))
    assert len(compiled) == 2 and set(compiled) == {None}
    torch.testing.assert_close(*map(weights, models), rtol=1e-3, atol=1e-5)
    assert models[0].latest == pytest.approx(models[1].latest, rel=1e-3)


def test_penalties_in_bf16():
    model = make_model("regularizer=[r1,gp,lecam]", "discriminator_augment=diffaugment")
    fit(model, batches(3), precision="bf16-mixed")
    assert all(tensor.isfinite().all() for tensor in weights(model)) and model.latest["penalty_gp"] > 0


# --- what cannot work ---


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["loss=wasserstein"], ["Wasserstein", "regularizer=gp", "spectral norm"]),
        (["loss=wasserstein", "regularizer=[r1,lecam]"], ["Wasserstein", "regularizer=gp"]),
        (["loss=wasserstein", "regularizer=gp", "model.regularizers.gp.weight=0"], ["Wasserstein", "regularizer=gp"]),
        (["loss=wasserstein", "regularizer=gp", "discriminator_augment=ada"], ["ADA", "discriminator_augment=diffaugment"]),
        (["loss=relativistic", "discriminator_augment=ada"], ["ADA", "RelativisticPaired"]),
        (["+model.regularizers.l2={_target_: torch.nn.Identity}"], ["model.regularizers.l2", "Identity"]),
        (
            ["model.discriminator_augment={_target_: condgen.augment.images.Flip}"],
            ["discriminator_augment", "Flip", "DiffAugment"],
        ),
        (["regularizer=r1", "model.regularizers.r1.every=0"], ["model.regularizers", "R1", "every"]),
        (["regularizer=r1", "model.regularizers.r1.weight=-1"], ["model.regularizers", "R1", "weight"]),
        (["discriminator_augment=diffaugment", "model.discriminator_augment.cutout=2"], ["discriminator_augment", "0..1"]),
        (["model.gradient_clip=0"], ["model.gradient_clip", "positive"]),
        (["model.decay={_target_: condgen.training.schedules.Cosine, start: 1}"], ["model.decay", "start"]),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(overrides, words):
    with pytest.raises(CondgenError) as refusal:
        make_model("model=cgan_mlp", *overrides)
    sentence = str(refusal.value)
    assert all(word in sentence for word in words) and sentence.endswith(".") and "\n" not in sentence, sentence


def test_penalties_on_the_slope_are_refused_with_batch_norm():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    for name in ("r1", "r2", "gp"):
        model = make_model("model=cgan_mlp", f"regularizer={name}")
        with pytest.raises(CondgenError, match=f"model.regularizers.{name} needs D's gradient by each sample, and batch norm"):
            check_regularizers(model.regularizers, model.loss, network)
    check_regularizers(make_model("regularizer=[lecam,consistency]").regularizers, model.loss, network)


def test_spectral_norm_bounds_a_wasserstein_critic():
    network = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1)))
    check_regularizers({}, Wasserstein(), network)
    with pytest.raises(CondgenError, match="bound its slope"):
        check_regularizers({}, Wasserstein(), nn.Linear(4, 1))
