"""Networks: shapes, how the condition enters, and what is refused."""

import pytest
import torch
from torch import nn

from condgen.conditions import ClassLabel, LearnedEmbedding, NoCondition, OneHot
from condgen.errors import CondgenError
from condgen.nets.conv import ConvDecoder, ConvDiscriminator, ConvEncoder, ConvGenerator, Residual
from condgen.nets.layers import Hidden, Standardize, input_layer
from condgen.nets.mlp import MLPDecoder, MLPDiscriminator, MLPEncoder, MLPGenerator
from condgen.spaces import Images

PETS = ClassLabel(["frog", "ship", "toad"])
SHAPES = [(1, 28, 28), (3, 28, 28), (1, 32, 32), (3, 32, 32)]
LABELS = torch.tensor([0, 1, 2, 2])


def image(shape):
    return torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def conv(**options):
    return {"width": 4, "depth": 2, "embedding": OneHot} | options


def mlp(**options):
    return {"hidden": [8], "embedding": OneHot} | options


@pytest.mark.parametrize("condition", [PETS, NoCondition()], ids=["class", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        (ConvGenerator, ConvDiscriminator, ConvEncoder, ConvDecoder, conv),
        (MLPGenerator, MLPDiscriminator, MLPEncoder, MLPDecoder, mlp),
    ],
    ids=["conv", "mlp"],
)
def test_shapes(make, shape, condition):
    torch.manual_seed(0)
    generator, discriminator, encoder, decoder, options = make
    space, x, z, c = Images(shape), image(shape), torch.randn(4, 5), condition.from_data(LABELS)
    samples = generator(latent=5, condition=condition, space=space, **options())(z, c)
    assert samples.shape == (4, *shape) and samples.abs().max() <= 1
    assert discriminator(condition=condition, space=space, **options())(x, c).shape == (4,)
    assert [t.shape for t in encoder(latent=5, condition=condition, space=space, **options())(x, c)] == [(4, 5), (4, 5)]
    outputs = decoder(latent=5, condition=condition, space=space, **options())(z, c)
    assert outputs.shape == (4, torch.Size(shape).numel())


@pytest.mark.parametrize("embedding", [OneHot, lambda condition: LearnedEmbedding(condition, 6)], ids=["one-hot", "learned"])
@pytest.mark.parametrize("make", [ConvDiscriminator, MLPDiscriminator, ConvGenerator, MLPGenerator])
def test_the_condition_is_heard_and_without_an_embedding_is_not(make, embedding):
    options = conv if make in (ConvDiscriminator, ConvGenerator) else mlp
    latent = {"latent": 5} if make in (ConvGenerator, MLPGenerator) else {}
    given = torch.randn(1, 5).expand(4, 5) if latent else image((1, 28, 28))[:1].expand(4, 1, 28, 28)
    for chosen, heard in ((embedding, True), (None, False)):
        net = make(condition=PETS, space=Images((1, 28, 28)), **latent, **options(embedding=chosen)).eval()
        outputs = net(given, LABELS)
        assert torch.allclose(outputs[2], outputs[3], atol=1e-6)  # the same class
        assert torch.allclose(outputs[0], outputs[1], atol=1e-6) != heard


def test_projection_is_an_inner_product_with_the_features():
    """D(x, c) = w.h(x) + v(c).h(x) (Miyato & Koyama 2018, equation 3)."""
    torch.manual_seed(0)
    net = ConvDiscriminator(condition=PETS, space=Images((1, 28, 28)), projection=True, **conv(embedding=None)).eval()
    x = image((1, 28, 28))
    h = net.down.layers(x)
    w, v = net.head.linear, net.head.project.weight.T  # (F,), (classes, F)
    torch.testing.assert_close(net(x, LABELS), h @ w.weight[0] + w.bias + (h * v[LABELS]).sum(1))
    torch.testing.assert_close(net.logits_and_features(x, LABELS), (net(x, LABELS), h))
    assert not torch.allclose(net(x, LABELS), net(x, LABELS.flip(0)))


@pytest.mark.parametrize("make", [ConvGenerator, ConvDiscriminator])
def test_residual_convolutions_are_added_to_what_they_see(make):
    """With their last weights at zero (ReLU of zero is zero too) nothing but the plain network is left."""
    torch.manual_seed(0)
    latent = {"latent": 5} if make is ConvGenerator else {}
    given = torch.randn(4, 5) if latent else image((1, 28, 28))
    plain, net = (make(condition=PETS, space=Images((1, 28, 28)), **latent, **conv(residual=n)).eval() for n in (0, [1, 2]))
    blocks = [module for module in net.modules() if isinstance(module, Residual)]
    widths = [layer.in_channels for module in blocks for layer in module if isinstance(layer, nn.Conv2d)]
    assert sorted(widths) == [4, 4, 8]  # one at 7x7, two at 14x14
    theirs = [parameter for module in blocks for parameter in module.parameters()]
    shared = [parameter for parameter in net.parameters() if all(parameter is not other for other in theirs)]
    with torch.no_grad():
        for mine, other in zip(plain.parameters(), shared, strict=True):
            mine.copy_(other)
        assert not torch.allclose(net(given, LABELS), plain(given, LABELS))
        for convolution in (layer for module in blocks for layer in module if isinstance(layer, nn.Conv2d)):
            convolution.weight.zero_()
            convolution.bias.zero_()
        torch.testing.assert_close(net(given, LABELS), plain(given, LABELS))


@pytest.mark.parametrize("make", [ConvGenerator, ConvDecoder])
def test_upsampling_doubles_sides_depth_times(make):
    net = make(latent=5, condition=PETS, space=Images((1, 32, 32)), **conv(depth=3))
    assert net.up.seed_shape == (4 * 4, 4, 4)  # widths double as sides halve


@pytest.mark.parametrize("depth, side", [(3, 28), (5, 48), (6, 32)])
def test_a_depth_that_does_not_divide_is_refused(depth, side):
    for make, latent in ((ConvGenerator, {"latent": 5}), (ConvDiscriminator, {})):
        with pytest.raises(CondgenError, match=r"data\.image_size") as caught:
            make(condition=PETS, space=Images((1, side, side)), **latent, **conv(depth=depth))
        assert f"{side}x{side}" in str(caught.value) and "\n" not in str(caught.value)


def test_as_many_residuals_as_sizes_are_needed():
    with pytest.raises(CondgenError, match=r"residual=\[1, 2, 3\].*one number or 2 of them"):
        ConvDiscriminator(condition=PETS, space=Images((1, 28, 28)), **conv(residual=[1, 2, 3]))


def test_a_convolutional_decoder_decodes_no_label():
    with pytest.raises(CondgenError, match=r"model\.generator\.decode_condition=false"):
        ConvDecoder(latent=5, condition=PETS, space=Images((1, 28, 28)), extra=3, **conv())


def test_standardize_uses_the_statistics_of_the_data():
    space = Images((3, 8, 8), mean=(0.1, -0.2, 0.3), deviation=(0.5, 0.25, 2.0))
    x = image((3, 8, 8))
    expected = torch.stack([(x[:, i] - space.mean[i]) / space.deviation[i] for i in range(3)], dim=1)
    torch.testing.assert_close(Standardize(space)(x), expected)
    assert not list(Standardize(space).parameters())
    assert set(Standardize(space).state_dict()) == {"mean", "deviation"}  # a checkpoint knows them
    assert isinstance(input_layer(space, False), nn.Identity)


@pytest.mark.parametrize("make, options", [(ConvDiscriminator, conv), (MLPDiscriminator, mlp)])
def test_standardize_is_the_first_layer_of_a_network(make, options):
    space = Images((1, 28, 28), mean=(-0.7,), deviation=(0.6,))
    torch.manual_seed(0)
    plain = make(condition=PETS, space=space, **options()).eval()
    dressed = make(condition=PETS, space=space, standardize=True, **options()).eval()
    dressed.load_state_dict(plain.state_dict(), strict=False)
    x = image((1, 28, 28))
    torch.testing.assert_close(dressed(x, LABELS), plain((x + 0.7) / 0.6, LABELS))


def test_the_order_of_an_mlps_layers():
    def kinds(**options):
        return [type(layer).__name__ for layer in Hidden([3, 4, 5], **options)]

    assert kinds() == ["Linear", "ReLU", "Linear", "ReLU"]
    dressed = ["Linear", "BatchNorm1d", "Dropout", "ReLU"]
    assert kinds(norm=nn.BatchNorm1d, dropout=0.5) == [*dressed, *dressed]
    assert kinds(norm=nn.BatchNorm1d, dropout=0.5, plain_first=True) == ["Linear", "ReLU", *dressed]
    assert kinds(norm=nn.BatchNorm1d, norm_last=True) == ["Linear", "ReLU", "BatchNorm1d"] * 2
