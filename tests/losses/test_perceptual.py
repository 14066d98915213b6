"""Perceptual losses against the formulas, written out; the layers they look at; the styles that are drawn."""

import numpy as np
import pytest
import torch
from torch import nn

from condgen.data.patterns import PATTERNS, style_image
from condgen.errors import CondgenError
from condgen.losses.perceptual import Perceptual, gram
from condgen.metrics.perception import ShippedLayers, VGGLayers


class Two(nn.Module):
    """Two layers: the image itself, and its square."""

    def forward(self, x):
        return [x, x**2]


def images(seed, count=3):
    return torch.rand(count, 2, 4, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_gram_matrices_are_means_of_products_over_places():
    h = images(0).numpy()
    expected = np.einsum("bcij,bdij->bcd", h, h) / 20
    np.testing.assert_allclose(gram(torch.from_numpy(h)).numpy(), expected, rtol=1e-5)


def test_the_loss_is_the_formula():
    made, photo, style = images(1), images(2), images(3)
    loss = Perceptual(Two, content_layer=1, style_layers=[0, 1], style_weight=3.0, smoothness=0.5)
    terms = loss(made, photo, loss.grams(loss.layers(style)))
    m, p, s = (x.double().numpy() for x in (made, photo, style))
    content = ((m**2 - p**2) ** 2).sum((1, 2, 3)) / (p**4).sum((1, 2, 3))
    grams = [
        (np.einsum("bcij,bdij->bcd", a, a) / 20, np.einsum("bcij,bdij->bcd", b, b) / 20) for a, b in ((m, s), (m**2, s**2))
    ]
    styled = sum(((a - b) ** 2).sum((1, 2)) / (b**2).sum((1, 2)) for a, b in grams) / 2
    rough = np.abs(np.diff(m, axis=2)).mean((1, 2, 3)) + np.abs(np.diff(m, axis=3)).mean((1, 2, 3))
    np.testing.assert_allclose(terms["content"].numpy(), content, rtol=1e-4)
    np.testing.assert_allclose(terms["style"].numpy(), styled, rtol=1e-4)
    np.testing.assert_allclose(terms["loss"].numpy(), content + 3 * styled + 0.5 * rough, rtol=1e-4)


def test_an_image_is_no_distance_from_itself():
    x = images(4)
    loss = Perceptual(Two, content_layer=0, style_layers=[0])
    assert loss(x, x, loss.grams(loss.layers(x)))["loss"].abs().max() == 0


def test_the_layers_of_the_shipped_classifier():
    layers = ShippedLayers("cifar10-resnet")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    found = layers(x)
    assert len(found) == 4 and [h.shape[2] for h in found] == [31, 15, 7, 3]
    grey = x.mean(1, keepdim=True)
    assert torch.equal(layers(grey)[0], layers(grey.expand(-1, 3, -1, -1))[0])


@pytest.mark.slow
def test_vgg_is_looked_at_after_four_activations(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    network = vgg16()
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    layers = VGGLayers(str(tmp_path / "vgg.pth"))(torch.zeros(1, 3, 32, 32))
    assert [h.shape[1] for h in layers] == [64, 128, 256, 512] and [h.shape[2] for h in layers] == [32, 16, 8, 4]
    assert all(bool((h >= 0).all()) for h in layers)
    with pytest.raises(CondgenError, match="is not a file"):
        VGGLayers("nowhere.pth")


def test_no_drawn_style_outweighs_the_others():
    """One whose Gram matrices are many times those of the others costs more content than it gains, and does not come out."""
    loss = Perceptual(lambda: ShippedLayers("cifar10-resnet"), content_layer=1, style_layers=[0, 1, 2])
    grams = loss.grams(loss.layers(torch.stack([style_image(name, 3, 32) for name in PATTERNS])))
    sizes = torch.stack([g.flatten(1).norm(dim=1) for g in grams])  # (layers, styles)
    assert (sizes.max(1).values < 4 * sizes.min(1).values).all()


def test_styles_are_drawn_or_read(tmp_path):
    from PIL import Image

    drawn = [style_image(name, 3, 32) for name in PATTERNS]
    assert all(x.shape == (3, 32, 32) and x.min() >= -1 and x.max() <= 1 and x.std() > 0.1 for x in drawn)
    assert all((a - b).abs().mean() > 0.1 for i, a in enumerate(drawn) for b in drawn[:i])
    assert style_image("dots", 1, 16).shape == (1, 16, 16) and torch.equal(style_image("mosaic", 3, 32), drawn[-1])
    Image.new("RGB", (50, 40), (255, 0, 0)).save(tmp_path / "red.png")
    red = style_image(str(tmp_path / "red.png"), 3, 8)
    assert red.shape == (3, 8, 8) and red[0].min() == 1 and red[1:].max() == -1
    with pytest.raises(CondgenError, match="neither an image file nor one of stripes"):
        style_image("monet", 3, 8)
