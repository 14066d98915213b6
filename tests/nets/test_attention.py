"""Self-attention over the places of an image."""

import math

import pytest
import torch

from condgen.nets.attention import SelfAttention


def layer(gamma: float) -> SelfAttention:
    torch.manual_seed(0)
    attention = SelfAttention(16).double()
    torch.nn.init.constant_(attention.gamma, gamma)
    return attention


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 16, height, width, generator=torch.Generator().manual_seed(1)).double() * 2


def test_it_begins_as_the_identity():
    x = images(4, 4)
    assert torch.equal(SelfAttention(16).double()(x), x)
    assert not torch.allclose(layer(0.5)(x), x)


@pytest.mark.parametrize("height, width", [(4, 4), (2, 6), (7, 7)])  # 7: the last row and column are in no maximum
def test_against_a_loop(height, width):
    attention, x = layer(0.7), images(height, width)
    query, key, value, out = (
        conv.weight[:, :, 0, 0] for conv in (attention.query, attention.key, attention.value, attention.out)
    )
    assert query.shape == key.shape == (2, 16) and value.shape == (8, 16)

    def pooled(matrix, image):
        maps = torch.einsum("oc,chw->ohw", matrix, image)
        places = [(row, column) for row in range(0, height - 1, 2) for column in range(0, width - 1, 2)]
        return [maps[:, r : r + 2, c : c + 2].amax((1, 2)) for r, c in places]

    y = attention(x)
    for b in range(2):
        keys, values = pooled(key, x[b]), pooled(value, x[b])
        for row in range(height):
            for column in range(width):
                asked = query @ x[b, :, row, column]
                scores = [math.exp(float((asked @ k).detach())) for k in keys]
                found = sum(score / sum(scores) * v for score, v in zip(scores, values, strict=True))
                torch.testing.assert_close(y[b, :, row, column], x[b, :, row, column] + 0.7 * (out @ found))


def test_it_has_a_second_derivative():
    """Gradient penalties need one; torch's fused attention has none."""
    attention, x = layer(0.7), images(4, 4)[:1, :, :2, :2].requires_grad_()
    assert torch.autograd.gradgradcheck(attention, (x,))


def test_few_channels_are_enough():
    assert SelfAttention(1)(torch.randn(2, 1, 4, 4)).shape == (2, 1, 4, 4)
