"""What a GAN can be given besides a loss: regularizers and augmentation of what D sees; what cannot work is refused."""

from typing import Any

import pytest
import torch
from recipes import batches, fit, make_model, weights
from torch import nn
from torch.autograd.function import once_differentiable

from condgen.errors import CondgenError
from condgen.losses.adversarial import BCE, Wasserstein
from condgen.losses.paired import L1
from condgen.losses.regularizers import R1, R2, Consistency, GradientPenalty, LeCam
from condgen.randomness import generator as keyed_generator
from condgen.training.alternation import Alternation
from condgen.training.gan_checks import check_regularizers

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL = (1, 8, 8)
NARROW = ("model.generator.network.width=4", "model.discriminator.width=4")
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
        discriminate = model.discriminate

        def watched(*arguments):
            self.seen.append(arguments)
            return discriminate(*arguments)

        model.discriminate = watched


# --- the objectives ---


def test_one_update_with_r1_by_hand():
    ((x, condition),) = data = batches(1)
    model, twin = (make_model("model=cgan_mlp", "regularizer=r1", "model.regularizers.r1.weight=3", *SGD) for _ in range(2))
    trainer = fit(model, data, log_every_n_steps=1)
    g, d = twin.generator, twin.discriminator
    fake = g(noise(), condition).detach()
    loss = -d(x, condition).sigmoid().log().mean() - (1 - d(fake, condition).sigmoid()).log().mean()
    point = x.clone().requires_grad_()
    gradients = torch.autograd.grad(d(point, condition).sum(), point, create_graph=True)[0]
    squares = sum(gradient.square().sum() for gradient in gradients) / 4
    descend(d, loss + 3 / 2 * squares)
    torch.testing.assert_close(weights(model.discriminator), weights(d))
    assert model.latest["penalty_r1"] == pytest.approx(squares.item() / 2, rel=1e-5)
    assert model.latest["loss_d"] == pytest.approx(loss.item(), rel=1e-5)  # the adversarial loss alone
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
    model = make_model("model=cgan_conv", *NARROW, f"regularizer=[{','.join(names)}]", shape=SMALL)
    fit(model, batches(2, shape=SMALL))
    assert model.latest.keys() == {"loss_d", "loss_g", *(f"penalty_{name}" for name in names)}
    assert all(value > 0 for name, value in model.latest.items() if name.startswith("penalty"))
    without = make_model("model=cgan_conv", *NARROW, "regularizer=[r1,r2]", "model.regularizers.r1=null", shape=SMALL)
    fit(without, batches(1, shape=SMALL))
    assert without.latest.keys() == {"loss_d", "loss_g", "penalty_r2"}


def gradients(*overrides):
    """D's gradient in each of twelve updates, three epochs, on one batch, while D stands still."""
    model = make_model("model=cgan_mlp", *overrides, *SGD, "model.discriminator_optimizer.lr=0")
    found: list[torch.Tensor] = []

    def note(parameters):
        listed = list(parameters)
        if listed[0] is next(model.discriminator.parameters()):
            found.append(torch.cat([p.grad.flatten() for p in listed]))

    model.clip = note
    fit(model, batches(1) * 4, max_epochs=3)
    return torch.stack(found), model.latest["penalty_r1"] if overrides else 0


def test_lazy_regularization_has_the_mean_of_the_eager_one():
    """One update in three, three times as much; they are counted through epochs."""
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


def test_penalties_are_of_the_discriminator_behind_its_augmentation():
    """The gradient of D(T(x)) by x: where T cuts out, it is 0."""
    model = make_model(
        "model=cgan_mlp", "regularizer=r1", "discriminator_augment=diffaugment", "model.discriminator_optimizer.lr=0"
    )
    ((x, condition),) = batches(1)
    twin = make_model("model=cgan_mlp").discriminator
    fit(model, [(x, condition)], log_every_n_steps=1)
    point = x.clone().requires_grad_()
    seen = model.augment(point, uniform("augment real", 7))
    (gradient,) = torch.autograd.grad(twin(seen, condition).sum(), point)
    assert model.latest["penalty_r1"] == pytest.approx(gradient.square().sum().item() / 8, rel=1e-4)


# --- what they must work with ---


class Compiled(torch.autograd.Function):
    """What torch.compile returns in one respect: its gradient has no gradient of its own."""

    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(context, gradient):
        return gradient.clone()


def compiled_and_plain(monkeypatch, compiler, *overrides):
    """Train a model whose D is compiled by ``compiler`` and one whose D is not; return both and the modes asked for."""
    modes = []

    def compile_anything(what: Any, mode: str | None = None, **options: Any) -> Any:
        modes.append(mode)
        return compiler(what)

    monkeypatch.setattr(torch, "compile", compile_anything)
    models = [make_model("model=cgan_mlp", *overrides, f"model.options.compile={mode}") for mode in ("true", "false")]
    for model in models:
        fit(model, batches(2))
    return *models, modes


def test_penalties_pass_by_what_is_compiled(monkeypatch):
    """Where a second derivative is asked of what torch.compile makes, there is none; losses and augmentation go through it."""
    passes = []

    def compiler(what):
        def fast(*arguments):
            passes.append(arguments)
            found = what(*arguments)
            return Compiled.apply(found) if isinstance(found, torch.Tensor) else tuple(map(Compiled.apply, found))

        return fast

    compiled, plain, modes = compiled_and_plain(monkeypatch, compiler, "regularizer=[r1,r2,gp]", "loss=wasserstein")
    assert len(passes) == 2 * 3 and modes == [None, None]  # on each batch: one of G, and one of D in each player's update
    torch.testing.assert_close(weights(compiled.discriminator), weights(plain.discriminator))
    torch.testing.assert_close(weights(compiled.generator), weights(plain.generator))


@pytest.mark.slow
def test_a_compiled_discriminator_can_be_penalized(monkeypatch):
    """By the part of the compiler that differentiates; without C++."""
    real = torch.compile
    compiled, plain, modes = compiled_and_plain(
        monkeypatch, lambda what: real(what, backend="aot_eager"), "regularizer=[r1,gp]", "loss=wasserstein"
    )
    assert len(modes) == 2 and set(modes) == {None}
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-5)
    assert compiled.latest == pytest.approx(plain.latest, rel=1e-3)


def test_penalties_in_bf16():
    """Real samples are float32, D's logits bf16: penalties are of the former."""
    model = make_model(
        "model=cgan_conv", *NARROW, "regularizer=[r1,gp,lecam]", "discriminator_augment=diffaugment", shape=SMALL
    )
    fit(model, batches(2, shape=SMALL), precision="bf16-mixed")
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
        (["loss=velocity"], ["adversarial loss", "loss=bce"]),
        (
            ["model.discriminator_augment={_target_: condgen.augment.images.Flip}"],
            ["discriminator_augment", "Flip", "DiffAugment"],
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(overrides, words):
    with pytest.raises(CondgenError) as refusal:
        make_model("model=cgan_mlp", *overrides)
    sentence = str(refusal.value)
    assert all(word in sentence for word in words) and sentence.endswith(".") and "\n" not in sentence, sentence


BATCH_NORM = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
FREE = Alternation()


@pytest.mark.parametrize("name, make", [("r1", R1), ("r2", R2), ("gp", GradientPenalty)])
def test_penalties_on_ds_gradient_are_refused_with_batch_norm(name, make):
    with pytest.raises(CondgenError, match=rf"model\.regularizers\.{name} needs D's gradient by each sample, and batch norm"):
        check_regularizers({name: make()}, BCE(), BATCH_NORM, FREE)


def test_other_regularizers_stand_beside_batch_norm():
    given = {"lecam": LeCam(), "consistency": Consistency([]), "l1": L1(), "gp": None}
    assert check_regularizers(given, BCE(), BATCH_NORM, FREE).keys() == {"lecam", "consistency", "l1"}


def test_spectral_norm_bounds_a_wasserstein_critic():
    network = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1)))
    check_regularizers({}, Wasserstein(), network, FREE)
    with pytest.raises(CondgenError, match="bound its gradient"):
        check_regularizers({}, Wasserstein(), nn.Linear(4, 1), FREE)


def test_distances_need_the_conditions_of_the_batch():
    with pytest.raises(CondgenError, match=r"model\.regularizers\.l1 .* model\.alternation\.fake_condition=batch"):
        check_regularizers({"l1": L1()}, BCE(), nn.Linear(4, 1), Alternation(fake_condition="random"))
