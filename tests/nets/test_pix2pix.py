"""pix2pix: shapes, what reaches what, the L1 term, patches in the game, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from recipes import fit, make_model, weights

from condgen.conditions import ClassLabel, Colorize, Edges, Inpaint, Together
from condgen.errors import CondgenError
from condgen.randomness import generator as keyed_generator

PETS = ClassLabel(["frog", "ship", "toad"])
GREY = (1, 28, 28)
PLAIN = ["~model.discriminator.norm", "+model.discriminator.norm=null"]
SMOOTH = [
    *PLAIN,
    "~model.generator.network.norm",
    "+model.generator.network.norm=null",
    "model.generator.network.dropout=0",
    "model.generator.network.init=null",
]
RATE = 0.1
SGD = [
    f"model.{player}_optimizer={{_target_: torch.optim.SGD, _partial_: true, lr: {RATE}}}"
    for player in ("generator", "discriminator")
]
SGD += [f"~model.{player}_optimizer.{key}" for player in ("generator", "discriminator") for key in ("betas", "fused")]


def small(*overrides, shape=GREY, condition=None):
    """Build pix2pix with narrow networks."""
    widths = ("model.generator.network.width=8", "model.discriminator.width=8")
    return make_model("model=pix2pix", *widths, *overrides, shape=shape, condition=condition or Inpaint(shape))


def pairs(condition, shape=GREY, count=4):
    """Draw images and their conditions."""
    stream = torch.Generator().manual_seed(0)
    x = torch.rand(count, *shape, generator=stream) * 2 - 1
    u = torch.rand(count, condition.draws, generator=stream)
    return x, condition.complete(condition.from_data(torch.arange(count) % 3), x, u)


# --- the networks ---


@pytest.mark.parametrize(
    "make, side, inner",
    [(Edges, 28, 7), (Inpaint, 32, 4), (Colorize, 64, 4), (lambda shape: Together(PETS, Edges(shape)), 24, 6)],
    ids=["edges", "inpaint", "colorize", "class-and-edges"],
)
def test_shapes_and_every_weight_learns(make, side, inner):
    shape = (3, side, side)
    condition = make(shape)
    model, (x, c) = small(shape=shape, condition=condition), pairs(condition, shape)
    g = model.generator.network
    images = g(torch.randn(4, model.generator.latent), c)
    assert images.shape == x.shape and images.abs().max() <= 1 and g.inner[1:] == (inner, inner)
    logits, h = model.discriminator.logits_and_features(images, c)
    assert logits.shape == (4, (side // 4 - 1) ** 2) and h.shape == (4, model.discriminator.head.features)
    logits.square().sum().backward()
    for network in (g, model.discriminator):
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_each_place_sees_the_whole_condition_and_the_noise():
    condition = Edges(GREY)
    g = small(*SMOOTH, condition=condition).generator.network
    z, c = torch.randn(1, 64, requires_grad=True), torch.rand(1, *GREY, requires_grad=True)
    g(z, c)[0, 0, 14, 14].backward()
    assert (c.grad != 0).all() and (z.grad != 0).all()


def test_a_patch_has_22_pixels_and_no_more():
    d, (_, c) = small(*PLAIN, shape=(1, 64, 64)).discriminator, pairs(Inpaint((1, 64, 64)), (1, 64, 64), 1)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    logits = d(x, c).view(15, 15)
    logits[7, 7].backward()
    seen = (x.grad[0, 0] != 0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [22, 22]


@pytest.mark.parametrize("projection", [False, True])
def test_a_class_beside_the_image_reaches_both_players(projection):
    overrides = ("model.discriminator.projection=true", "model.discriminator.embedding=null") if projection else ()
    condition = Together(PETS, Edges(GREY))
    model, (x, c) = small(*overrides, condition=condition).eval(), pairs(condition)
    other = torch.cat([c[:, :3].roll(1, dims=1), c[:, 3:]], dim=1)
    z = torch.zeros(4, model.generator.latent)
    assert not torch.equal(model.generator(z, c), model.generator(z, other))
    assert not torch.equal(model.discriminator(x, c), model.discriminator(x, other))
    if projection:  # the formula of the head, patch by patch
        d = model.discriminator
        h = d.features(x, c)
        expected = d.head.linear(h)[..., 0] + torch.einsum("nf,npf->np", d.head.project(c[:, :3]), h)
        torch.testing.assert_close(d(x, c), expected)


def test_a_model_that_starts_from_noise_is_pointed_to():
    with pytest.raises(CondgenError, match="condition=edges"):
        small(condition=PETS)


# --- training ---


def descend(network, loss):
    """A step of plain gradient descent."""
    with torch.no_grad():
        for p, gradient in zip(network.parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True):
            p -= RATE * gradient


def test_one_update_of_both_by_hand():
    condition = Inpaint(GREY)
    data = [pairs(condition)]
    ((x, c),) = data
    model, twin = (small(*SMOOTH, *SGD, "model.regularizers.l1.weight=7", condition=condition) for _ in range(2))
    fit(model, data, log_every_n_steps=1)
    g, d = twin.generator, twin.discriminator
    z = torch.randn(4, 64, generator=keyed_generator(0, "noise", 0, 0))
    known = c[:, 1:] > 0
    fake = torch.where(known, x, g(z, c))  # D never sees what G drew over known pixels
    l1 = (fake - x).abs().mean()
    descend(d, F.softplus(-d(x, c)).mean() + F.softplus(d(fake.detach(), c)).mean())
    adversarial = F.softplus(-d(fake, c)).mean()
    descend(g, adversarial + 7 * l1)
    for mine, by_hand in ((model.discriminator, d), (model.generator, g)):
        torch.testing.assert_close(weights(mine), weights(by_hand))
    assert model.latest["l1"] == pytest.approx(l1.item(), rel=1e-5)
    assert model.latest["loss_g"] == pytest.approx(adversarial.item(), rel=1e-5)  # the adversarial loss alone


def test_pieces_give_the_same_update():
    condition = Edges(GREY)
    data = [pairs(condition)]
    whole, pieces = (small(*SMOOTH, *SGD, f"model.alternation.micro_batches={n}", condition=condition) for n in (1, 2))
    for model in (whole, pieces):
        fit(model, data, log_every_n_steps=1)
    torch.testing.assert_close(weights(pieces.generator), weights(whole.generator))
    assert pieces.latest["l1"] == pytest.approx(whole.latest["l1"], rel=1e-5)


def test_known_pixels_of_samples_are_those_of_the_condition():
    condition = Inpaint(GREY)
    x, c = pairs(condition)
    samples, known = small(condition=condition).generator.sample(c), c[:, 1:] > 0
    assert torch.equal(samples[known], x[known]) and not torch.equal(samples[~known], x[~known])


@pytest.mark.parametrize("loss", ["bce", "lsgan", "hinge", "relativistic"])
def test_patches_are_judged_under_every_loss_and_penalty(loss):
    condition = Edges(GREY)
    model = small(*PLAIN, f"loss={loss}", "regularizer=[r1,r2,gp,lecam]", condition=condition)
    fit(model, [pairs(condition)] * 2, log_every_n_steps=1)
    assert {"loss_d", "loss_g", "l1", "penalty_r1", "penalty_lecam"} <= model.latest.keys()
    found = model.statistics()
    assert all(value.dim() == 0 and value.isfinite() for value in found.values())


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["model.alternation.fake_condition=random"], "fake_condition=batch"),
        (["discriminator_augment=diffaugment"], "discriminator_augment=none"),
        ([*PLAIN, "regularizer=consistency"], "model.regularizers.consistency=null"),
    ],
)
def test_what_cannot_be_is_refused(overrides, words):
    with pytest.raises(CondgenError, match=words) as caught:
        small(*overrides)
    assert "\n" not in str(caught.value)
