"""R3GAN's networks: shapes, how they start, how they resample, what they count, and what is refused."""

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from recipes import DIGITS, make_model
from torch import nn

from condgen.conditions import ClassLabel, LearnedEmbedding, NoCondition, OneHot
from condgen.errors import CondgenError
from condgen.nets.r3gan import GAIN, Block, Double, Halve, R3GANDiscriminator, R3GANGenerator
from condgen.spaces import Images

COLOUR = (3, 32, 32)
LABELS = torch.tensor([0, 1, 2, 2])
PETS = ClassLabel(["frog", "ship", "toad"])
LEARNED = partial(LearnedEmbedding, width=5)


def networks(shape=COLOUR, condition=DIGITS, width=8, embedding=LEARNED, **both):
    """Build G, of 6 noise values, and D."""
    torch.manual_seed(0)
    both |= {"condition": condition, "space": Images(shape), "width": width}
    return R3GANGenerator(latent=6, embedding=embedding, **both), R3GANDiscriminator(**both)


def images(shape=COLOUR, count=4):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def wake(network):
    """Move the branches from zero, where they start."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return network


def blocks(network):
    return [module for module in network.modules() if isinstance(module, Block)]


# --- shapes ---


@pytest.mark.parametrize(
    "shape, condition", [((1, 28, 28), PETS), ((3, 32, 32), NoCondition()), ((1, 32, 32), PETS), ((3, 64, 64), PETS)]
)
def test_shapes(shape, condition):
    (g, d), c = networks(shape, condition), condition.from_data(LABELS)
    z = torch.randn(4, 6) * 3
    raw = wake(g)(z, c)
    assert raw.shape == (4, *shape) and raw.abs().max() > 1  # in training unbounded
    torch.testing.assert_close(g.eval()(z, c), raw.clamp(-1, 1))
    logits, h = d.logits_and_features(images(shape), c)
    assert logits.shape == (4,) and h.shape == (4, d.head.features) == (4, 8)


@pytest.mark.parametrize("side, smallest, sizes", [(28, 7, 3), (32, 4, 4), (64, 4, 5), (48, 6, 4)])
def test_the_stages_follow_from_the_side(side, smallest, sizes):
    for network in networks((1, side, side)):
        basis = network.basis if isinstance(network, R3GANGenerator) else network.basis.weight
        assert basis.shape[-2:] == (smallest, smallest) and len(blocks(network)) == 2 * sizes


def test_widths_blocks_and_groups_are_arguments_of_each_stage():
    g, d = networks((1, 28, 28), width=[12, 8, 4], blocks=[1, 2, 3], cardinality=[4, 1, 2], expansion=4)
    for network in (g, d):
        convolutions = [block.grouped for block in blocks(network)]
        assert [c.in_channels for c in convolutions] == [48, 32, 32, 16, 16, 16]
        assert [c.groups for c in convolutions] == [4, 1, 1, 2, 2, 2]
    assert d(g(torch.randn(4, 6), LABELS), LABELS).shape == (4,)


@pytest.mark.parametrize("width, groups", [(768, 96), (384, 48), (16, 2), (8, 1), (4, 1), (25, 2), (20, 2)])
def test_open_cardinality_means_groups_of_16_channels_or_few_more(width, groups):
    g, _ = networks((1, 8, 8), width=width, blocks=1)
    assert {block.grouped.groups for block in blocks(g)} == {groups}


def test_no_layer_normalizes():
    for network in networks():
        kinds = {type(module).__name__ for module in network.modules()}
        assert kinds and not any("Norm" in kind for kind in kinds)


# --- how they start ---


def test_residual_branches_start_as_nothing():
    """At first the networks are their skip paths alone; once branches wake, they are not."""
    g, d = networks((1, 16, 16), width=[8, 8, 6])
    x = (skipped := g.scale(torch.cat([torch.ones(4, 6), g.embed(LABELS)], 1))[:, :, None, None] * g.basis)
    for layer in g.stages:
        skipped = skipped if isinstance(layer, Block) else layer(skipped)
    torch.testing.assert_close(g(torch.ones(4, 6), LABELS), g.out(skipped), rtol=0, atol=0)
    assert not torch.allclose(wake(g).stages(x), skipped)
    y = d.input(images((1, 16, 16)))
    for layer in d.stages:
        y = y if isinstance(layer, Block) else layer(y)
    torch.testing.assert_close(d.features(images((1, 16, 16)), LABELS), d.mix(d.basis(y).flatten(1)), rtol=0, atol=0)


def test_a_block_is_the_published_one():
    block = wake(Block(4, 16, 2, total=8)).double()
    x = torch.randn(3, 4, 5, 5).double()
    for bias in (block.widen.bias, block.grouped.bias):
        nn.init.normal_(bias)
    h = torch.einsum("oi,bihw->bohw", block.widen.weight[:, :, 0, 0], x) + block.widen.bias[:, None, None]
    h = torch.where(h > 0, h, 0.2 * h)
    halves = zip(h.chunk(2, 1), block.grouped.weight.chunk(2), strict=True)
    h = torch.cat([F.conv2d(part, kernel, padding=1) for part, kernel in halves], 1) + block.grouped.bias[:, None, None]
    h = torch.where(h > 0, h, 0.2 * h)
    torch.testing.assert_close(block(x), x + torch.einsum("oi,bihw->bohw", block.narrow.weight[:, :, 0, 0], h))
    assert block.narrow.bias is None


def test_weights_start_with_the_published_deviations():
    """Gain / sqrt(fan-in): gain 1 outside of the blocks, sqrt(2 / 1.04) * blocks ** -(1 / 4) inside."""
    torch.manual_seed(0)
    block = Block(64, 128, 8, total=16)
    assert abs(GAIN - 1.386750) < 1e-6
    for layer, inputs in ((block.widen, 64), (block.grouped, 16 * 9)):
        assert layer.weight.std().item() == pytest.approx(GAIN / 2 / inputs**0.5, rel=0.05) and not layer.bias.any()
    g, d = networks(width=64, embedding=partial(LearnedEmbedding, width=500))
    expected = {g.scale.weight: 506, g.out.weight: 64, g.embed.table: 10, d.basis.weight: 16, d.mix.weight: 64}
    expected |= {d.input.weight: 3, d.head.project.weight: 64 * 10, g.basis: 1}
    for weight, inputs in expected.items():
        assert weight.std().item() == pytest.approx(inputs**-0.5, rel=0.15)
    assert not d.head.linear.weight.any() and not d.head.linear.bias.any()


def test_a_discriminator_without_a_condition_starts_awake():
    _, d = networks(condition=NoCondition())
    assert d(images(), NoCondition().from_data(LABELS)).std() > 0 and isinstance(d.mix, nn.Identity)


# --- resampling ---


def test_halving_is_the_filter_1_3_3_1_by_hand():
    x = torch.randn(2, 3, 6, 8).double()
    line = torch.tensor([1, 3, 3, 1]).double() / 8
    padded = F.pad(x, (1, 1, 1, 1))
    expected = torch.zeros(2, 3, 3, 4).double()
    for i in range(4):
        for j in range(4):
            expected += line[i] * line[j] * padded[:, :, i : i + 6 : 2, j : j + 8 : 2]
    torch.testing.assert_close(Halve().double()(x), expected)


def test_doubling_is_bilinear_with_zeros_outside():
    x = torch.randn(2, 3, 5, 7).double()
    up = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Double().double()(x), up[:, :, 2:-2, 2:-2])


def test_constants_stay_constants_within_the_image():
    for layer in (Double(), Halve()):
        assert torch.allclose(layer(torch.full((1, 2, 8, 8), 3.0))[:, :, 1:-1, 1:-1], torch.tensor(3.0))


# --- how the condition enters ---


@pytest.mark.parametrize("embedding", [LEARNED, OneHot, None])
def test_the_generator_hears_the_condition_unless_it_is_kept_out(embedding):
    g, _ = networks(embedding=embedding)
    outputs = g(torch.ones(4, 6), LABELS)
    torch.testing.assert_close(outputs[2], outputs[3])
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6) == (embedding is None)


@pytest.mark.parametrize("embedding", [OneHot, None])
@pytest.mark.parametrize("projection", [True, False])
def test_the_discriminator_hears_the_condition_unless_it_is_kept_out(projection, embedding):
    d = R3GANDiscriminator(DIGITS, Images(COLOUR), width=8, embedding=embedding, projection=projection)
    logits = d(images()[:1].expand(4, -1, -1, -1), LABELS)
    torch.testing.assert_close(logits[2], logits[3])
    assert torch.allclose(logits[0], logits[1], atol=1e-6) == (embedding is None and not projection)


def test_projection_is_the_inner_product_with_the_class():
    """At the start D(x, c) = (V c).h, as the authors' whole D is."""
    _, d = networks()
    h = d.features(images(), LABELS)
    expected = torch.stack([d.head.project.weight[:, label] @ h[i] for i, label in enumerate(LABELS.tolist())])
    torch.testing.assert_close(d(images(), LABELS), expected)


# --- training ---


def test_a_penalty_of_ds_gradient_can_be_trained():
    """R1 and R2 need the second derivative, also of the low-pass filters."""
    _, d = networks((1, 8, 8))
    d, x = wake(d).double(), images((1, 8, 8)).double().requires_grad_()

    def penalty():
        (gradient,) = torch.autograd.grad(d(x, LABELS).sum(), x, create_graph=True)
        return gradient.square().sum()

    penalty().backward()
    weight = d.input.weight
    found, step = weight.grad[0, 0].item(), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
        values.append(penalty().item())
        with torch.no_grad():
            weight[0, 0] -= sign * step
    assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4) and found != 0


def test_the_published_model_learns_to_tell_and_to_fool():
    """A step of each player lowers its own loss, and all of its weights have a gradient once branches are awake."""
    model = make_model("model=r3gan", "model.generator.network.width=8", "model.discriminator.width=8", shape=COLOUR)
    g, d = wake(model.generator.network), wake(model.discriminator)
    assert set(model.regularizers.keys()) == {"r1", "r2"} and model.regularizers["r1"].weight == 0.05
    z, x = torch.randn(4, model.generator.latent, generator=torch.Generator().manual_seed(0)), images()
    for network, loss in (
        (d, lambda: model.loss.discriminator_loss(d(x, LABELS), d(g(z, LABELS).detach(), LABELS))),
        (g, lambda: model.loss.generator_loss(d(g(z, LABELS), LABELS), d(x, LABELS))),
    ):
        losses = []
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99))
        for _ in range(5):
            losses.append(loss())
            optimizer.zero_grad()
            losses[-1].backward()
            deaf = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
            assert deaf <= {"head.linear.bias"}  # a relativistic loss sees differences alone
            optimizer.step()
        assert all(after < before for before, after in pairwise(losses))


# --- sizes ---


def test_it_has_the_parameters_of_the_authors_networks():
    """github.com/brownvc/R3GAN, train.py, preset CIFAR10: width 768, 96 groups, 2 blocks in 4 stages, latent 64, class 64.

    No figure of the paper is claimed here: these are the sums over the layers of R3GAN/Networks.py.
    """
    inside = 2 * 768
    block = 768 * inside + inside + inside * (inside // 96) * 9 + inside + inside * 768
    g = 10 * 64 + (64 + 64) * 768 + 768 * 4 * 4 + 8 * block + 768 * 3
    d = 3 * 768 + 8 * block + 768 * 4 * 4 + 768 * 768 + 10 * 768
    assert (g, d) == (20_781_952, 21_280_512)
    with torch.device("meta"):
        model = make_model("experiment=cifar10_r3gan", "model.options.ema=0", shape=COLOUR)
    counts = [sum(p.numel() for p in network.parameters()) for network in (model.generator.network, model.discriminator)]
    assert counts == [g, d + 768 + 1]  # w and b of the head are ours


# --- what is refused ---


@pytest.mark.parametrize(
    "both, words",
    [
        ({"width": [8, 8]}, r"width=\[8, 8\].* 4 of them"),
        ({"blocks": [1, 2, 3]}, r"blocks=\[1, 2, 3\].* 4 of them"),
        ({"cardinality": 3}, "cardinality=3.*16 channels"),
        ({"cardinality": [1, 1]}, "cardinality=.* 4 of them"),
        ({"depth": 6}, "set depth to a number"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(both, words):
    with pytest.raises(CondgenError, match=words) as caught:
        networks(**both)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("make", [partial(R3GANGenerator, latent=5), R3GANDiscriminator])
def test_what_is_no_image_is_refused(make):
    class Plane:
        shape = (2,)

    with pytest.raises(CondgenError, match="needs images, not plane"):
        make(condition=PETS, space=Plane(), width=8)
