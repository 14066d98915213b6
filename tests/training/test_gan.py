"""The GAN family: published architectures, who moves when and on what, and what counts as an update."""

from itertools import pairwise

import pytest
import torch
from recipes import batches, fit, make_model, same, weights
from torch import nn

from condgen.conditions import NoCondition
from condgen.randomness import generator as keyed_generator
from condgen.training.alternation import Alternation
from condgen.training.counts import Counts
from condgen.training.gan import pieces, players

PLAYERS = ("generator", "discriminator")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def size(module):
    return sum(p.numel() for p in module.parameters())


def linears(*widths):
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))


def kinds(module):
    return [type(layer).__name__ for layer in module.trunk.layers]


# --- as published ---


def test_a_cgan_mlp():
    model = make_model("model=cgan_mlp")
    assert size(model.generator) == 110 * 128 + 128 + 128 * 256 + 256 + 256 * 784 + 784 == linears(110, 128, 256, 784)
    assert size(model.discriminator) == linears(784 + 10, 256, 128, 1)
    assert kinds(model.generator.network) == kinds(model.discriminator) == ["Linear", "ReLU", "Linear", "ReLU"]
    assert type(model.loss).__name__ == "BCE" and model.loss.scale == 1 and model.ema is None
    assert model.alternation == Alternation()


def test_b_cgan_embedding():
    model = make_model("model=cgan_embedding", "experiment=mnist_cgan_embedding", shape=(1, 32, 32))
    norms = 2 * (256 + 512 + 1024)
    assert size(model.generator) == 10 * 10 + linears(110, 128, 256, 512, 1024, 1024) + norms
    assert size(model.discriminator) == 10 * 10 + linears(1024 + 10, 512, 512, 512, 1)
    dressed = ["Linear", "BatchNorm1d", "LeakyReLU"]
    assert kinds(model.generator.network) == ["Linear", "LeakyReLU", *dressed, *dressed, *dressed]
    dropped = ["Linear", "Dropout", "LeakyReLU"]
    assert kinds(model.discriminator) == ["Linear", "LeakyReLU", *dropped, *dropped]
    assert {layer.eps for layer in model.generator.network.trunk.layers if isinstance(layer, nn.BatchNorm1d)} == {0.8}
    assert {layer.p for layer in model.discriminator.trunk.layers if isinstance(layer, nn.Dropout)} == {0.4}
    assert {layer.negative_slope for layer in model.generator.network.trunk.layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert type(model.loss).__name__ == "LSGAN" and model.loss.scale == 0.5
    assert model.alternation == Alternation(order="generator_first", fake_condition="random")


def test_d_gan_mlp():
    model = make_model("model=gan_mlp", condition=NoCondition())
    assert size(model.generator) == linears(100, 256, 512, 1024, 784) + 2 * (256 + 512 + 1024)
    assert size(model.discriminator) == linears(784, 512, 256, 1)
    assert kinds(model.generator.network) == ["Linear", "LeakyReLU", "BatchNorm1d"] * 3
    assert {layer.momentum for layer in model.generator.network.trunk.layers if isinstance(layer, nn.BatchNorm1d)} == {0.2}


@pytest.mark.parametrize(
    "name, shape, betas",
    [
        ("cgan_mlp", (1, 28, 28), (0.9, 0.999)),
        ("cgan_embedding", (1, 32, 32), (0.5, 0.999)),
        ("gan_mlp", (1, 28, 28), (0.5, 0.999)),
    ],
)
def test_the_published_optimizers(name, shape, betas):
    model = make_model(f"model={name}", shape=shape)
    trainer = fit(model, batches(1, shape=shape))
    for optimizer, network in zip(trainer.optimizers, (model.generator, model.discriminator), strict=True):
        (group,) = optimizer.param_groups
        assert type(optimizer) is torch.optim.Adam and group["lr"] == 2e-4 and tuple(group["betas"]) == betas
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}


# --- who moves when ---


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ["DG", "DG", "DG"]),
        ({"order": "generator_first"}, ["GD", "GD", "GD"]),
        ({"discriminator_steps": 3}, ["D", "D", "DG"]),
        ({"discriminator_steps": 2, "order": "generator_first"}, ["D", "GD", "D"]),
    ],
)
def test_who_is_updated_on_a_batch(options, expected):
    named = {"D": "discriminator", "G": "generator"}
    assert [players(Alternation(**options), i) for i in (1, 2, 3)] == [[named[p] for p in batch] for batch in expected]


@pytest.mark.parametrize("count, sizes", [(1, [7]), (2, [3, 4]), (3, [2, 2, 3]), (7, [1] * 7), (10**9, [1] * 7)])
def test_micro_batches_are_the_batch_in_even_pieces(count, sizes):
    rows = [list(range(7))[piece] for piece in pieces(7, count)]
    assert [len(piece) for piece in rows] == sizes and [row for piece in rows for row in piece] == list(range(7))


class Witness:
    """Records each update: the player, its micro-batches, and whether the other one's weights stayed."""

    def __init__(self, model):
        self.updates, self.made = [], []
        for name, other in (("discriminator", model.generator), ("generator", model.discriminator)):
            mine = getattr(model, name)
            setattr(model, f"update_{name}", self.watch(name, getattr(model, f"update_{name}"), mine, other))
        micro_batches = model.micro_batches

        def watched(*arguments, **options):
            for micro_batch in micro_batches(*arguments, **options):
                self.made.append(micro_batch)
                yield micro_batch

        model.micro_batches = watched

    def watch(self, name, update, mine, other):
        def watched(micro_batches):
            before = weights(mine), weights(other)
            listed = list(micro_batches)
            result = update(listed)
            assert not same(before[0], weights(mine)), f"{name} did not move"
            assert same(before[1], weights(other)), f"{name} moved the other player"
            self.updates.append((name, listed))
            return result

        return watched

    def names(self):
        return [name for name, _ in self.updates]


def test_each_player_moves_only_itself_discriminator_first():
    model = make_model("model=cgan_mlp")
    witness = Witness(model)
    data = batches(3)
    trainer = fit(model, data)
    assert witness.names() == ["discriminator", "generator"] * 3 and trainer.global_step == 3
    for i, (x, condition) in enumerate(data):
        (one,), (again,) = witness.updates[2 * i][1], witness.updates[2 * i + 1][1]
        assert torch.equal(one.real, x) and torch.equal(one.condition, condition)
        assert torch.equal(one.fake_condition, condition) and again is one and one.size == len(one.real) == len(x)
    assert len(witness.made) == 3


def test_generator_first():
    model = make_model("model=cgan_mlp", "model.alternation.order=generator_first")
    witness = Witness(model)
    fit(model, batches(2))
    assert witness.names() == ["generator", "discriminator"] * 2
    assert witness.updates[0][1][0] is witness.updates[1][1][0]


@pytest.mark.parametrize("order", ["generator_first", "discriminator_first"])
def test_a_new_fake_batch_for_the_second_player(order):
    model = make_model("model=cgan_mlp", f"model.alternation.order={order}", "model.alternation.reuse_fake=false")
    witness = Witness(model)
    fit(model, batches(1))
    first, second = (one for _, (one,) in witness.updates)
    assert len(witness.made) == 2 and not torch.equal(first.fake, second.fake)
    assert [one.fake.requires_grad for one in (first, second)] == [name == "generator" for name in witness.names()]


def test_random_conditions_for_the_fakes():
    model = make_model("model=cgan_mlp", "model.alternation.fake_condition=random")
    witness = Witness(model)
    data = [(x, torch.full((64,), 3)) for x, _ in batches(2, size=64)]
    fit(model, data)
    for _, (one,) in witness.updates:
        assert len(one.fake_condition.unique()) == 10 and (one.condition == 3).all()  # of 64 draws
    assert not torch.equal(witness.updates[0][1][0].fake_condition, witness.updates[2][1][0].fake_condition)


def test_two_discriminator_steps_halve_the_updates():
    model = make_model("model=cgan_mlp", "model.alternation.discriminator_steps=2", "model.options.ema=0.9")
    witness = Witness(model)
    trainer = fit(model, batches(6))
    assert witness.names() == ["discriminator", "discriminator", "generator"] * 3
    assert trainer.global_step == model.counts.updates == 3  # the generator's
    assert model.counts == Counts(updates=3, batches=6, epochs=1)
    assert len({id(seen[0]) for name, seen in witness.updates if name == "discriminator"}) == 6


def test_max_steps_counts_the_generators_updates():
    model = make_model("model=cgan_mlp", "model.alternation.discriminator_steps=2")
    witness = Witness(model)
    trainer = fit(model, batches(12), max_steps=2, max_epochs=-1)
    assert trainer.global_step == model.counts.updates == 2 and witness.names().count("generator") == 2


SGD = [f"model.{player}_optimizer={{_target_: torch.optim.SGD, _partial_: true, lr: 0.1}}" for player in PLAYERS]
SGD += [f"~model.{player}_optimizer.{key}" for player in PLAYERS for key in ("betas", "fused")]


def test_one_update_against_autograd_by_hand():
    """A step of plain gradient descent on the written formulas, networks and noise taken from the model."""
    model, twin = (make_model("model=cgan_mlp", *SGD) for _ in range(2))
    ((x, condition),) = data = batches(1)
    witness = Witness(model)
    fit(model, data)
    fake = witness.made[0].fake.detach()

    g, d = twin.generator, twin.discriminator
    loss_d = -d(x, condition).sigmoid().log().mean() - (1 - d(fake, condition).sigmoid()).log().mean()
    with torch.no_grad():
        for p, gradient in zip(d.parameters(), torch.autograd.grad(loss_d, list(d.parameters())), strict=True):
            p -= 0.1 * gradient
    torch.testing.assert_close(weights(model.discriminator), weights(d))

    z = torch.randn(4, 100, generator=keyed_generator(0, "noise", 0, 0))
    torch.testing.assert_close(g(z, condition), fake)
    loss_g = -d(g(z, condition), condition).sigmoid().log().mean()
    with torch.no_grad():
        for p, gradient in zip(g.parameters(), torch.autograd.grad(loss_g, list(g.parameters())), strict=True):
            p -= 0.1 * gradient
    torch.testing.assert_close(weights(model.generator), weights(g))


# --- a batch in micro-batches ---


@pytest.mark.parametrize(
    "options", [(), ("model.alternation.reuse_fake=false", "model.alternation.fake_condition=random", "loss=relativistic")]
)
def test_accumulated_gradients_are_those_of_the_whole_batch(options):
    """Also with what is drawn for each sample: augmentation, and the points of the gradient penalty."""
    drawn = ("model=cgan_mlp", "regularizer=[r1,gp]", "discriminator_augment=diffaugment", "auxiliary=acgan", *options, *SGD)
    whole, pieces = (make_model(*drawn, f"model.alternation.micro_batches={n}") for n in (1, 3))
    witness = Witness(pieces)
    for model in (whole, pieces):
        fit(model, batches(3, size=7))
    assert [len(piece.real) for piece in witness.updates[0][1]] == [2, 2, 3] and len(witness.made) == 3 * 2 * 3
    torch.testing.assert_close(weights(pieces), weights(whole), rtol=1e-4, atol=1e-6)
    assert pieces.latest == pytest.approx(whole.latest, rel=1e-4)


# --- the average ---


def test_samples_come_from_the_average():
    model = make_model("model=cgan_mlp", "model.options.ema=0.9")
    fit(model, batches(3))
    assert not same(weights(model.generator), weights(model.ema.average.network))
    z = torch.randn(2, 100, generator=torch.Generator().manual_seed(5))
    expected = model.ema.average.network(z, torch.tensor([3, 3]))
    assert model.eval_generator is model.ema.average and model.weights == "ema"
    torch.testing.assert_close(model.eval_generator.sample(3, 2, generator=torch.Generator().manual_seed(5)), expected)


def test_sampling_does_not_disturb_training():
    model = make_model("model=cgan_embedding", shape=(1, 32, 32))
    model.train()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    model.generator.sample("0-9", 2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
