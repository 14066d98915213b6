"""DCGAN, SNGAN and BigGAN: shapes, how the condition enters, and what is refused."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from recipes import DIGITS, make_model
from torch import nn

from condgen.conditions import ClassLabel, LearnedEmbedding, NoCondition, OneHot
from condgen.errors import CondgenError
from condgen.nets.attention import SelfAttention
from condgen.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from condgen.nets.resnet import DownBlock, ResNetDiscriminator, ResNetGenerator, UpBlock
from condgen.spaces import Images

MODELS = ["dcgan", "sngan", "biggan"]
LATENT = {"dcgan": 100, "sngan": 128, "biggan": 80}
COLOUR = (3, 32, 32)
LABELS = torch.tensor([0, 1, 2, 2])
PETS = ClassLabel(["frog", "ship", "toad"])


def small(name, *overrides, shape=COLOUR, condition=DIGITS):
    """Build G and D of a model in conf/model, narrow."""
    widths = ("model.generator.network.width=8", "model.discriminator.width=8")
    model = make_model(f"model={name}", *widths, *overrides, shape=shape, condition=condition)
    return model.generator.network, model.discriminator


def images(shape=COLOUR, count=4):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


# --- shapes ---


@pytest.mark.parametrize(
    "shape, condition",
    [((1, 28, 28), PETS), ((3, 32, 32), NoCondition()), ((1, 32, 32), PETS), ((3, 64, 64), PETS)],
    ids=["mnist", "cifar10-none", "grey", "64"],
)
@pytest.mark.parametrize("name", MODELS)
def test_shapes(name, shape, condition):
    (g, d), c = small(name, shape=shape, condition=condition), condition.from_data(LABELS)
    samples = g(torch.randn(4, LATENT[name]) * 3, c)
    assert samples.shape == (4, *shape) and samples.abs().max() <= 1 and samples.std() > 0
    assert d(images(shape), c).shape == (4,)


@pytest.mark.parametrize("side, seed, doublings, halved", [(28, 7, 2, 7), (32, 4, 3, 8), (64, 4, 4, 8), (48, 6, 3, 12)])
def test_the_depth_follows_from_the_side(side, seed, doublings, halved):
    options = {"condition": DIGITS, "space": Images((1, side, side)), "width": 8}
    g, d = ResNetGenerator(latent=5, **options), ResNetDiscriminator(**options)
    assert g.seed_shape[1:] == (seed, seed) and len(g.blocks) == doublings
    assert side >> sum(block.halve for block in d.blocks) == halved
    assert DCGANGenerator(latent=5, **options).seed_shape == (8 << (doublings - 1), seed, seed)


def test_width_and_depth_are_arguments():
    overrides = ("model.generator.network.width=[12,8,6]", "model.generator.network.depth=2", "model.discriminator.halvings=1")
    g, d = small("sngan", *overrides, "model.discriminator.depth=2", "model.discriminator.width=[6,8]")
    assert g.seed_shape == (12, 8, 8)
    assert [(block.first.in_channels, block.first.out_channels) for block in g.blocks] == [(12, 8), (8, 6)]
    assert [(block.first.out_channels, block.halve) for block in d.blocks] == [(6, True), (8, False)]
    assert d(g(torch.randn(4, 128), LABELS), LABELS).shape == (4,)


@pytest.mark.parametrize("side, at, g_after, d_after", [(28, 16, 0, 0), (32, 16, 1, 0), (32, 8, 0, 1), (64, 16, 1, 1)])
def test_attention_stands_at_the_largest_side_that_fits(side, at, g_after, d_after):
    options = {"condition": DIGITS, "space": Images((1, side, side)), "width": 8, "attention": at}
    for network, after in ((ResNetGenerator(latent=5, **options), g_after), (ResNetDiscriminator(**options), d_after)):
        assert [i for i, layer in enumerate(network.attend) if isinstance(layer, SelfAttention)] == [after]
    assert not any(isinstance(layer, SelfAttention) for layer in small("sngan")[0].modules())


# --- the blocks, against the order in which they were published ---


def test_an_up_block_is_the_published_one():
    torch.manual_seed(0)
    block, x, v = UpBlock(4, 6, 3).double(), torch.randn(5, 4, 3, 3).double(), torch.randn(5, 3).double()
    nn.init.normal_(block.norm1.gain.weight), nn.init.normal_(block.norm2.bias.weight)
    up = nn.Upsample(scale_factor=2)
    h = block.first(up(block.norm1(x, v).relu()))
    expected = block.second(block.norm2(h, v).relu()) + block.shortcut(up(x))
    torch.testing.assert_close(block(x, v), expected)


@pytest.mark.parametrize("halve", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("outputs", [4, 6])
def test_a_down_block_is_the_published_one(halve, first, outputs):
    torch.manual_seed(0)
    block, x = DownBlock(4, outputs, halve, first).double(), torch.randn(5, 4, 6, 6).double()
    h = block.second(block.first(x if first else x.relu()).relu())
    pool = nn.AvgPool2d(2) if halve else nn.Identity()
    shortcut = x if outputs == 4 and not halve else pool(block.shortcut(x))
    torch.testing.assert_close(block(x), pool(h) + shortcut)


# --- how the condition enters ---


def heard(network, given):
    """Return whether outputs differ between classes; they must not within one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of one batch, or signals would fade in eval mode
    network.train()(torch.randn(8, *given.shape[1:]), LABELS.repeat(2))
    outputs = network.eval()(given[:1].expand(4, *given.shape[1:]), LABELS)
    torch.testing.assert_close(outputs[2], outputs[3])
    return not torch.allclose(outputs[0], outputs[1], atol=1e-6)


ONE_HOT = "{_target_: condgen.conditions.OneHot, _partial_: true}"
GENERATORS = {
    "dcgan": DCGANGenerator,
    "sngan": ResNetGenerator,
    "biggan": partial(ResNetGenerator, split=True, attention=16, spectral_norm=True, init="orthogonal"),
}


def open_ears(network):
    """Move the maps of conditional norms from zero, where they begin unless their spectral norm is held."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight)


@pytest.mark.parametrize("embedding", [OneHot, partial(LearnedEmbedding, width=5)], ids=["one-hot", "learned"])
@pytest.mark.parametrize("way", ["embedding", "norm_embedding", None])
@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_the_generator_hears_the_condition_in_each_way_and_in_none_without(make, way, embedding):
    torch.manual_seed(0)
    g = make(latent=20, condition=DIGITS, space=Images(COLOUR), width=8, **{way: embedding} if way else {})
    open_ears(g)
    assert heard(g, torch.randn(4, 20)) == (way is not None)


@pytest.mark.parametrize("way", ["embedding", "projection", "both", "none"])
@pytest.mark.parametrize("name", MODELS)
def test_the_discriminator_hears_the_condition_in_each_way_and_in_none_without(name, way):
    embedding, projection = ONE_HOT if way in ("embedding", "both") else "null", way in ("projection", "both")
    overrides = (f"model.discriminator.embedding={embedding}", f"model.discriminator.projection={projection}")
    assert heard(small(name, *overrides)[1], images()) == (way != "none")


@pytest.mark.parametrize("name", MODELS)
def test_each_model_hears_its_class_once_it_learns(name):
    """After one step of G, whose conditional norms may begin deaf."""
    g, _ = small(name)
    g(torch.randn(4, LATENT[name]), LABELS).square().sum().backward()
    torch.optim.Adam(g.parameters(), lr=0.01).step()
    assert heard(g, torch.randn(4, LATENT[name]))


@pytest.mark.parametrize("name", MODELS)
def test_a_one_hot_mixture_is_its_class_and_others_lie_between(name):
    g, d = (network.eval() for network in small(name))
    open_ears(g)
    z, one_hot = torch.randn(4, LATENT[name]), F.one_hot(LABELS, 10).float()
    with torch.no_grad():
        torch.testing.assert_close(g(z, one_hot), g(z, LABELS))
        torch.testing.assert_close(d(images(), one_hot), d(images(), LABELS))
        z, t = z[:1].expand(5, -1), torch.linspace(0, 1, 5)[:, None]
        path = g(z, (1 - t) * one_hot[:1] + t * one_hot[1:2])
    steps = (path[1:] - path[:-1]).flatten(1).norm(dim=1)
    whole = (path[-1] - path[0]).norm()
    assert (steps > 0).all() and (steps < whole).all()  # it moves all along, and does not jump


@pytest.mark.parametrize("name", MODELS)
def test_projection_against_its_formula(name):
    """D(x, c) = w.h + b + v_c.h (Miyato & Koyama 2018, equation 3), with h summed over all places (SNGAN, BigGAN)."""
    d = small(name, "model.discriminator.projection=true", "model.discriminator.embedding=null")[1].double().eval()
    x = images().double()
    h = d.features(x, LABELS)
    if name != "dcgan":
        y = x
        for block, attend in zip(d.blocks, d.attend, strict=True):
            y = attend(block(y))
        torch.testing.assert_close(h, torch.einsum("bchw->bc", y.clamp(min=0)))
    w, b, v = d.head.linear.weight[0], d.head.linear.bias[0], d.head.project.weight.T  # v: one row a class
    assert v.shape == (10, h.shape[1])
    logits = d(x, LABELS)
    for i, label in enumerate(LABELS.tolist()):
        torch.testing.assert_close(logits[i], w @ h[i] + b + v[label] @ h[i])


def test_each_chunk_of_the_noise_has_its_layer():
    """Of 80 values seed and blocks take 20 each at 32 pixels; 27, 27 and 26 at 28."""
    for side, sizes in ((32, [20, 20, 20, 20]), (28, [27, 27, 26])):
        g = small("biggan", shape=(1, side, side))[0].eval()
        assert [g.seed.in_features, *(block.norm1.gain.in_features - 128 for block in g.blocks)] == sizes
        z = torch.randn(1, 80)
        seeds = [g.seed(z.tensor_split(g.chunks, 1)[0])]
        for start, size in zip(torch.tensor([0, *sizes]).cumsum(0), sizes, strict=False):
            other = z.clone()
            other[:, start : start + size] += 1
            assert not torch.allclose(g(z, LABELS[:1]), g(other, LABELS[:1]), atol=1e-6)
            seeds.append(g.seed(other.tensor_split(g.chunks, 1)[0]))
        assert not torch.equal(seeds[0], seeds[1]) and all(torch.equal(seeds[0], seed) for seed in seeds[2:])


def test_a_penalty_of_ds_gradient_can_be_trained():
    """R1 and its like need the second derivative through spectral norm and attention."""
    d = small("biggan")[1]
    nn.init.ones_(d.attend[0].gamma)
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(d(x, LABELS).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert d.blocks[0].first.parametrizations.weight.original.grad.abs().max() > 0
    assert d.attend[0].query.parametrizations.weight.original.grad.abs().max() > 0


# --- what is refused ---


@pytest.mark.parametrize(
    "name, overrides, words",
    [
        ("biggan", ["model.generator.network.attention=7"], "attention=7.*8, 16, 32"),
        ("biggan", ["model.discriminator.attention=4"], "attention=4.*16, 8, 8, 8"),
        ("sngan", ["model.generator.network.width=[8,8]"], r"width=\[8, 8\].*4 of them"),
        ("sngan", ["model.discriminator.width=0"], "width must be a whole number of at least 1"),
        ("sngan", ["model.discriminator.depth=1"], "model.discriminator.depth=1 .*model.discriminator.halvings"),
        ("sngan", ["model.discriminator.halvings=6"], "set halvings to a number"),
        ("sngan", ["model.generator.network.depth=6"], "set depth to a number"),
        ("dcgan", ["model.generator.network.depth=0"], "depth must be a whole number of at least 1"),
        ("dcgan", ["model.generator.network.init=kaiming"], "init must be normal, xavier, orthogonal or null, not 'kaiming'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(name, overrides, words):
    with pytest.raises(CondgenError, match=words) as caught:
        small(name, *overrides)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("make", [DCGANGenerator, DCGANDiscriminator, ResNetGenerator, ResNetDiscriminator])
def test_what_is_no_image_is_refused(make):
    class Plane:
        shape = (2,)

    latent = {"latent": 5} if make in (DCGANGenerator, ResNetGenerator) else {}
    with pytest.raises(CondgenError, match="needs images, not plane"):
        make(condition=PETS, space=Plane(), width=8, **latent)
