"""DCGAN, SNGAN and BigGAN have the number of parameters that their papers and public code have, by hand arithmetic."""

import pytest
import torch
from recipes import make_model

from condgen.conditions import ClassLabel, NoCondition

COLOUR = (3, 32, 32)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def conv(inputs, outputs, kernel=3):
    return inputs * outputs * kernel**2 + outputs


def test_sngan_has_the_published_parameters():
    """Miyato et al. 2018, table 4, in gen_models/resnet_32.py and dis_models/snresnet_32.py of their code.

    G: a linear layer to 4x4x256, three blocks of two 3x3 convolutions, a 1x1 shortcut and two norms, a norm, a convolution.
    D: blocks of 128, the first two with a shortcut; a linear layer (theirs has no bias, one parameter fewer) and, for the
    projection, a row of 128 for each class.
    """
    block = 2 * conv(256, 256) + conv(256, 256, 1)
    unconditional = 128 * 4096 + 4096 + 3 * (block + 2 * 2 * 256) + 2 * 256 + conv(256, 3)
    assert unconditional == 4_276_739  # known as 4.3 M
    conditional = unconditional + 3 * 2 * (10 - 1) * 2 * 256  # each of the six norms in the blocks: ten gains and biases
    d = conv(3, 128) + conv(128, 128) + conv(3, 128, 1) + 2 * conv(128, 128) + conv(128, 128, 1) + 4 * conv(128, 128) + 129
    assert d == 1_053_825  # known as 1.05 M
    model = make_model("experiment=cifar10_sngan", shape=COLOUR)
    assert (count(model.generator.network), count(model.discriminator)) == (conditional, d + 10 * 128)
    plain = make_model("model=sngan", "condition=none", shape=COLOUR, condition=NoCondition())
    assert (count(plain.generator.network), count(plain.discriminator)) == (unconditional, d)


def attention(channels):
    return 2 * channels * (channels // 8) + 2 * channels * (channels // 2) + 1  # Q and K, V and O, gamma


@pytest.mark.parametrize("data, classes", [("cifar10", 10), ("cifar100", 100)])
def test_biggan_has_the_published_parameters(data, classes):
    """Brock et al. 2019, appendix B, in the widths of StudioGAN's BigGAN for CIFAR-10 (src/models/big_resnet.py, base 96).

    G: 20 of the 80 noise values to 4x4x384; each norm in a block has two maps without bias from 128 + 20; the embedding.
    """
    norms = 2 * 2 * (128 + 20) * 384
    g = 20 * 6144 + 6144 + 3 * (2 * conv(384, 384) + conv(384, 384, 1) + norms) + 2 * 384 + conv(384, 3) + attention(384)
    g += classes * 128
    d = conv(3, 192) + conv(192, 192) + conv(3, 192, 1) + 2 * conv(192, 192) + conv(192, 192, 1) + 4 * conv(192, 192)
    d += attention(192) + 193 + classes * 192
    assert g == 9_416_196 + (classes - 10) * 128  # known as 9.4 M
    condition = ClassLabel([str(k) for k in range(classes)])
    model = make_model(f"experiment={data}_biggan", shape=COLOUR, condition=condition)
    assert (count(model.generator.network), count(model.discriminator)) == (g, d)


def test_dcgan_has_the_parameters_of_pytorchs_example():
    """github.com/pytorch/examples, dcgan/main.py, at 64 pixels: 3,576,704 and 2,765,568, without a bias anywhere.

    Here the layers that no norm follows have one: G's last (3), D's first (64), D's linear layer (1).
    """
    g = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 2 * (512 + 256 + 128 + 64)
    d = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512)
    assert (g, d) == (3_576_704, 2_765_568)
    model = make_model("model=dcgan", "condition=none", shape=(3, 64, 64), condition=NoCondition())
    assert (count(model.generator.network), count(model.discriminator)) == (g + 3, d + 64 + 1)


@pytest.mark.parametrize("name", ["dcgan", "sngan", "biggan"])
def test_the_published_networks_learn(name):
    """At their own width: every parameter of both gets a finite gradient."""
    model = make_model(f"experiment=cifar10_{name}", shape=COLOUR)
    labels = torch.tensor([0, 1])
    fake = model.generator(torch.randn(2, model.generator.latent), labels)
    model.discriminator(fake, labels).sum().backward()
    for name, parameter in [*model.generator.named_parameters(), *model.discriminator.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
