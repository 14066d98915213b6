"""The GAN family: published architectures, who moves when and on what, and what counts as an update."""

from itertools import pairwise

import pytest
import torch
from recipes import batches, fit, make_model, same, weights
from torch import nn

from condgen.conditions import NoCondition
from condgen.randomness import generator as keyed_generator

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
    assert kinds(model.generator) == kinds(model.discriminator) == ["Linear", "ReLU", "Linear", "ReLU"]
    assert type(model.loss).__name__ == "BCE" and model.loss.scale == 1 and model.ema is None
    assert not model.generator_first and model.reuse_fake and model.fake_condition == "batch"


def test_b_cgan_embedding():
    model = make_model("model=cgan_embedding", "experiment=mnist_cgan_embedding", shape=(1, 32, 32))
    norms = 2 * (256 + 512 + 1024)
    assert size(model.generator) == 10 * 10 + linears(110, 128, 256, 512, 1024, 1024) + norms
    assert size(model.discriminator) == 10 * 10 + linears(1024 + 10, 512, 512, 512, 1)
    dressed = ["Linear", "BatchNorm1d", "LeakyReLU"]
    assert kinds(model.generator) == ["Linear", "LeakyReLU", *dressed, *dressed, *dressed]
    dropped = ["Linear", "Dropout", "LeakyReLU"]
    assert kinds(model.discriminator) == ["Linear", "LeakyReLU", *dropped, *dropped]
    assert {layer.eps for layer in model.generator.trunk.layers if isinstance(layer, nn.BatchNorm1d)} == {0.8}
    assert {layer.p for layer in model.discriminator.trunk.layers if isinstance(layer, nn.Dropout)} == {0.4}
    assert {layer.negative_slope for layer in model.generator.trunk.layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert type(model.loss).__name__ == "LSGAN" and model.loss.scale == 0.5
    assert model.generator_first and model.reuse_fake and model.fake_condition == "random"


def test_d_gan_mlp():
    model = make_model("model=gan_mlp", condition=NoCondition())
    assert size(model.generator) == linears(100, 256, 512, 1024, 784) + 2 * (256 + 512 + 1024)
    assert size(model.discriminator) == linears(784, 512, 256, 1)
    assert kinds(model.generator) == ["Linear", "LeakyReLU", "BatchNorm1d"] * 3
    assert {layer.momentum for layer in model.generator.trunk.layers if isinstance(layer, nn.BatchNorm1d)} == {0.2}


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


# --- the turns ---


class Witness:
    """Records each player's turn: its name, the games it was given, and whether the other one's weights stayed."""

    def __init__(self, model):
        self.turns, self.made = [], []
        for name, other in (("discriminator", model.generator), ("generator", model.discriminator)):
            mine = getattr(model, name)
            setattr(model, f"{name}_step", self.watch(name, getattr(model, f"{name}_step"), mine, other))
        games = model.games

        def watched(*arguments, **options):
            for game in games(*arguments, **options):
                self.made.append(game)
                yield game

        model.games = watched

    def watch(self, name, step, mine, other):
        def watched(games):
            before = weights(mine), weights(other)
            listed = list(games)
            result = step(listed)
            assert not same(before[0], weights(mine)), f"{name} did not move"
            assert same(before[1], weights(other)), f"{name} moved the other player"
            self.turns.append((name, listed))
            return result

        return watched

    def names(self):
        return [name for name, _ in self.turns]


def test_each_player_moves_only_itself_discriminator_first():
    model = make_model("model=cgan_mlp")
    witness = Witness(model)
    data = batches(3)
    trainer = fit(model, data)
    assert witness.names() == ["discriminator", "generator"] * 3 and trainer.global_step == 3
    for i, (x, condition) in enumerate(data):
        (game,), (again,) = witness.turns[2 * i][1], witness.turns[2 * i + 1][1]
        assert torch.equal(game.x, x) and torch.equal(game.condition, condition) and torch.equal(game.asked, condition)
        assert again is game and game.share == 1
    assert len(witness.made) == 3


def test_generator_first():
    model = make_model("model=cgan_mlp", "model.order=generator_first")
    witness = Witness(model)
    fit(model, batches(2))
    assert witness.names() == ["generator", "discriminator"] * 2
    assert witness.turns[0][1][0] is witness.turns[1][1][0]


@pytest.mark.parametrize("order", ["generator_first", "discriminator_first"])
def test_a_new_fake_batch_for_the_second_player(order):
    model = make_model("model=cgan_mlp", f"model.order={order}", "model.reuse_fake=false")
    witness = Witness(model)
    fit(model, batches(1))
    first, second = (game for _, (game,) in witness.turns)
    assert len(witness.made) == 2 and not torch.equal(first.fake, second.fake)
    assert [game.fake.requires_grad for game in (first, second)] == [name == "generator" for name in witness.names()]


def test_random_conditions_for_the_fakes():
    model = make_model("model=cgan_mlp", "model.fake_condition=random")
    witness = Witness(model)
    data = [(x, torch.full((64,), 3)) for x, _ in batches(2, size=64)]
    fit(model, data)
    for _, (game,) in witness.turns:
        assert len(game.asked.unique()) == 10 and (game.condition == 3).all()  # of 64 draws
    assert not torch.equal(witness.turns[0][1][0].asked, witness.turns[2][1][0].asked)


def test_two_discriminator_steps_halve_the_updates():
    model = make_model("model=cgan_mlp", "model.discriminator_steps=2", "model.ema=0.9")
    witness = Witness(model)
    trainer = fit(model, batches(6))
    assert witness.names() == ["discriminator", "discriminator", "generator"] * 3
    assert trainer.global_step == 3  # counts the generator's updates
    assert len({id(games[0]) for name, games in witness.turns if name == "discriminator"}) == 6


def test_max_steps_counts_the_generators_updates():
    model = make_model("model=cgan_mlp", "model.discriminator_steps=2")
    witness = Witness(model)
    trainer = fit(model, batches(12), max_steps=2, max_epochs=-1)
    assert trainer.global_step == 2 and witness.names().count("generator") == 2


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


# --- a batch in pieces ---


@pytest.mark.parametrize("options", [(), ("model.reuse_fake=false", "model.fake_condition=random", "loss=relativistic")])
def test_accumulated_gradients_are_those_of_the_whole_batch(options):
    """Also with what is drawn for each sample: augmentation, and the points of the gradient penalty."""
    drawn = ("model=cgan_mlp", "regularizer=[r1,gp]", "discriminator_augment=diffaugment", "auxiliary=acgan", *options, *SGD)
    whole, pieces = (make_model(*drawn, f"model.accumulate={n}") for n in (1, 3))
    witness = Witness(pieces)
    for model in (whole, pieces):
        fit(model, batches(3, size=7))
    assert [len(game.x) for game in witness.turns[0][1]] == [2, 2, 3] and len(witness.made) == 3 * 2 * 3
    torch.testing.assert_close(weights(pieces), weights(whole), rtol=1e-4, atol=1e-6)
    assert pieces.latest == pytest.approx(whole.latest, rel=1e-4)


def test_more_pieces_than_samples_are_as_many_as_these():
    whole, pieces = (make_model("model=cgan_mlp", f"model.accumulate={n}", *SGD) for n in (1, 9))
    for model in (whole, pieces):
        fit(model, batches(1))
    torch.testing.assert_close(weights(pieces), weights(whole), rtol=1e-4, atol=1e-6)


# --- the average ---


def test_samples_come_from_the_average():
    model = make_model("model=cgan_mlp", "model.ema=0.9")
    fit(model, batches(3))
    assert not same(weights(model.generator), weights(model.ema.network))
    z = torch.randn(2, 100, generator=torch.Generator().manual_seed(5))
    expected = model.ema.network(z, torch.tensor([3, 3]))
    torch.testing.assert_close(model.sample(3, 2, generator=torch.Generator().manual_seed(5)), expected)


def test_sampling_does_not_disturb_training():
    model = make_model("model=cgan_embedding", shape=(1, 32, 32))
    model.train()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    model.sample("0-9", 2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


def test_two_runs_with_one_seed_are_one():
    first, second, other = (make_model("model=cgan_conv", seed=seed) for seed in (1, 1, 2))
    for model in (first, second, other):
        torch.manual_seed(id(model) % 1000)  # the global state must not matter
        fit(model, batches(3))
    assert same(weights(first), weights(second)) and not same(weights(first), weights(other))
