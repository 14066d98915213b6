"""The U-Net: any image whose sides it halves, attention where it was asked for, the start at zero, and what is refused."""

from functools import partial

import pytest
import torch

from condgen.conditions import ClassLabel, Inpaint, LearnedEmbedding, NoCondition, Together
from condgen.errors import CondgenError
from condgen.nets.unet import Attention, UNet
from condgen.nets.velocity import waves
from condgen.spaces import Images, Points

THREE = ClassLabel(["a", "b", "c"])


def unet(shape=(1, 28, 28), condition=THREE, **changes):
    options = {"widths": [8, 16], "blocks": 1, "patch": 2, "attention": None, "signal": 16}
    embedding = partial(LearnedEmbedding, width=4)
    return UNet(condition, Images(shape), **(options | {"embedding": embedding} | changes))


@pytest.mark.parametrize(
    "shape, changes",
    [
        ((1, 28, 28), {}),
        ((3, 32, 32), {"patch": 1, "widths": [8, 8, 16], "blocks": 2}),
        ((3, 64, 64), {"patch": 4, "attention": 8}),
        ((1, 12, 20), {"widths": [10, 12]}),
        ((1, 28, 28), {"condition": NoCondition()}),
        ((1, 28, 28), {"embedding": None, "widths": [8]}),
    ],
)
def test_velocities_have_the_shape_of_images_and_every_weight_learns(shape, changes):
    network = unet(shape, **changes)
    x, t = torch.randn(3, *shape), torch.tensor([0.0, 0.5, 1.0])
    condition = changes.get("condition", THREE).draw(3, torch.Generator().manual_seed(0))
    dropped = torch.tensor([False, True, False])
    assert not network(x, t, condition, dropped).any()  # it starts at zero
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    velocity = network(x, t, condition, dropped)
    assert velocity.shape == x.shape
    velocity.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_each_place_sees_the_whole_image():
    """With attention, or through the levels: the gradient of one pixel reaches the far corner."""
    network = unet(attention=7, widths=[8, 16, 16], shape=(1, 32, 32))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 1, 32, 32, requires_grad=True)
    network(x, torch.tensor([0.5]), torch.tensor([0]), torch.tensor([False]))[0, 0, 0, 0].backward()
    assert x.grad[0, 0, 31, 31] != 0


@pytest.mark.parametrize("beside", [False, True])
def test_an_image_enters_as_further_channels_and_a_learned_blank_where_it_is_dropped(beside):
    image = Inpaint((1, 28, 28))
    condition = Together(THREE, image) if beside else image
    network = unet(condition=condition)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    labels, u = torch.tensor([0, 1, 2]), torch.rand(3, 2)
    one, other = (condition.complete(condition.from_data(labels), torch.rand(3, 1, 28, 28), u) for _ in range(2))
    x, t, dropped = torch.randn(3, 1, 28, 28), torch.full((3,), 0.5), torch.tensor([False, True, False])
    same = [torch.equal(a, b) for a, b in zip(network(x, t, one, dropped), network(x, t, other, dropped), strict=True)]
    assert same == [False, True, False]
    network(x, t, one, torch.zeros(3, dtype=torch.bool)).square().sum().backward()
    assert not network.blank.grad.any()
    network(x, t, one, dropped).square().sum().backward()
    assert network.blank.shape == (2, 1, 1) and network.blank.grad.all()


@pytest.mark.parametrize("attention, blocks", [(None, 0), (7, 3), (14, 5)])
def test_attention_stands_at_the_sizes_it_was_asked_for(attention, blocks):
    assert sum(isinstance(module, Attention) for module in unet(attention=attention).modules()) == blocks


def test_attention_is_that_of_the_formula():
    layer = Attention(64).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 64, 3, 4, dtype=torch.float64)
    query, key, value = layer.project(layer.norm(x)).flatten(2).chunk(3, dim=1)  # (2, 64, 12)
    heads = []
    for rows in (slice(0, 32), slice(32, 64)):
        found = (query[:, rows].mT @ key[:, rows] / 32**0.5).softmax(dim=2)  # (2, 12, 12)
        heads.append(value[:, rows] @ found.mT)
    torch.testing.assert_close(layer(x), x + layer.out(torch.cat(heads, dim=1).view_as(x)))


def test_time_is_written_in_waves_from_slow_to_fast():
    written = waves(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert written.shape == (1001, 64) and torch.equal(written[0], torch.tensor([0.0] * 32 + [1.0] * 32, dtype=torch.float64))
    torch.testing.assert_close(written[:, 0], torch.linspace(0, 1, 1001, dtype=torch.float64).sin())
    torch.testing.assert_close(written[1, 31].item(), torch.tensor(1.0).sin().item(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"shape": (1, 30, 30)}, "multiples of 4, not 30x30"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(CondgenError, match=words):
        unet(**changes)


def test_points_are_sent_to_another_model():
    with pytest.raises(CondgenError, match="not points: set model=flow_points"):
        UNet(THREE, Points(), [8], 1, 1, None, 16, None)
