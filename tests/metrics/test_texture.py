"""sFID and the distances of patches: against independent references, and what they see of known damage."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command import FEWER
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from scipy import linalg, ndimage, stats
from torch import nn

from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.data.sources import MNIST
from condgen.metrics import patches
from condgen.metrics.damage import DAMAGES, STRENGTHS, Pictures
from condgen.metrics.distances import FrechetDistance
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.extractors import Custom, Shipped
from condgen.metrics.patches import descriptors, levels, patch_distances, projections, pyramid
from condgen.metrics.record import Record


def photos(count: int, seed: int, channels: int = 3) -> torch.Tensor:
    """Smooth random images, uint8 (N, C, 32, 32)."""
    noise = np.random.default_rng(seed).normal(size=(count, channels, 32, 32))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5))
    return torch.from_numpy((127 + 250 * smooth).clip(0, 255).astype(np.uint8))


def low_pass(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blur with scipy instead of with a convolution of torch."""
    for axis in (-2, -1):
        x = ndimage.convolve1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="mirror")
    return x


def test_the_pyramid_is_that_of_scipy_and_adds_up_to_the_images() -> None:
    x = photos(3, 0).double() / 127.5 - 1
    fine, coarse = pyramid(x)
    small = low_pass(x.numpy())[:, :, ::2, ::2]
    wide = np.zeros(x.shape)
    wide[:, :, ::2, ::2] = 4 * small
    np.testing.assert_allclose(coarse.numpy(), small, atol=1e-6)
    np.testing.assert_allclose(fine.numpy(), x.numpy() - low_pass(wide), atol=1e-6)
    assert levels(32) == [32, 16] and levels(28) == [28, 14] and levels(64) == [64, 32, 16] and levels(6) == []


def test_patches_are_cut_from_the_images_and_normalized_in_each_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "PATCHES", 400)
    found = descriptors(photos(700, 1), seed=0)  # fewer patches than images
    for patch in found:
        assert patch.shape == (400, 3 * 49)
        channels = patch.double().view(400, 3, 49)
        np.testing.assert_allclose(channels.mean((0, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(channels.std((0, 2), correction=0), 1, atol=1e-5)
    flat = torch.arange(28 * 28).view(1, 1, 28, 28).float()
    corner = patches.cut_out(flat, torch.tensor([0]), torch.tensor([[3, 5]]))
    assert torch.equal(corner[0, 0].view(7, 7), flat[0, 0, 3:10, 5:12])


def test_distances_are_those_of_scipy_on_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "PATCHES", 500)
    monkeypatch.setattr(patches, "DIRECTIONS", 5)
    real, blurred = photos(100, 1), photos(100, 2) // 2
    reference = descriptors(real, seed=3)
    found = patch_distances(descriptors(blurred, seed=4), [projections(one, 3) for one in reference], seed=3)
    for a, b, distance in zip(reference, descriptors(blurred, seed=4), found, strict=True):
        ways = patches.directions(a.shape[1], 3)
        np.testing.assert_allclose(ways.norm(dim=0), 1, rtol=1e-5)
        ones = [stats.wasserstein_distance(a.numpy() @ way, b.numpy() @ way) for way in ways.T.numpy()]
        assert distance == pytest.approx(1000 * np.mean(ones), rel=1e-4)


def test_sfid_is_that_of_a_matrix_square_root() -> None:
    """Of the 7 channels of the first block that `spatial` takes, by scipy, as Nash et al. compute it."""
    images = MNIST().load().test.images[:1600]
    network = Shipped("mnist-cnn")
    a, b = network.spatial(images[:800]), network.spatial(images[800:])
    assert a is not None and b is not None and a.shape == (800, 343)
    with torch.inference_mode():
        first = nn.Sequential(*list(network.network.children())[:4])
        maps = first(network.fitting(images[:8]))[:, [0, 4, 9, 13, 18, 22, 27]]
    np.testing.assert_allclose(F.adaptive_avg_pool2d(maps, 7).flatten(1), a[:8], rtol=1e-3, atol=1e-4)
    x, y = a.double().numpy(), b.double().numpy()
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert float(FrechetDistance(a)(b)) == pytest.approx(expected, rel=1e-4)


def test_patches_of_some_rows_are_those_of_their_images() -> None:
    images, rows = photos(60, 5), torch.tensor([3, 50, 7, 8])
    for a, b in zip(descriptors(images, 0, rows), descriptors(images[rows], 0), strict=True):
        assert torch.equal(a, b)


def test_an_extractor_without_convolutions_gives_no_sfid() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    assert Custom("flat", flat, [1, 28, 28]).spatial(MNIST().load().test.images[:3]) is None


def test_damage_is_what_it_is_called() -> None:
    real = Pictures(photos(40, 6), torch.arange(40) % 4)
    train = Pictures(photos(12, 7), torch.arange(12) % 4)
    for name, damage in DAMAGES.items():
        found = damage(real, STRENGTHS[name][3] if name != "classes" else 2, train)
        assert found.images.shape == real.images.shape and found.images.dtype == torch.uint8 and len(found.labels) == 40
        assert torch.equal(found.images, real.images) == (name == "labels")
    pieces = DAMAGES["shuffle"](real, 1.0, train).images.flatten(1).sort().values
    assert torch.equal(pieces, real.images.flatten(1).sort().values)
    assert set(DAMAGES["classes"](real, 2, train).labels.tolist()) == {0, 1}
    assert len(DAMAGES["modes"](real, 0.99, train).images.flatten(1).unique(dim=0)) == 4
    assert sorted(DAMAGES["labels"](real, 0.5, train).labels.tolist()) == sorted(real.labels.tolist())
    copied = DAMAGES["copies"](real, 1.0, train)
    for image, label in zip(copied.images, copied.labels, strict=True):
        assert any(torch.equal(image, other) for other in train.images[train.labels == label])


SEES = {
    "blur": ("fid", "sfid", "swd", "swd_fine"),
    "noise": ("sfid", "swd_fine"),
    "shuffle": ("fid", "sfid", "label_accuracy"),
    "labels": ("label_accuracy", "intra_fid"),
}
"""What docs/damage.md says of MNIST."""
BLIND = {"labels": ("fid", "sfid", "swd")}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    """Against 1,000 validation images, with fewer patches than otherwise and a fiftieth of the training images."""
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        data = compose("train", ["data=mnist", "data.split=1000", FEWER.replace("0.1", "0.02")]).data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "PATCHES", 2**12)
        patch.setattr(patches, "DIRECTIONS", 16)
        yield Evaluator(Shipped("mnist-cnn"), build("data", plain(data)), "val", seed=7)


def record(evaluator: Evaluator, pictures: Pictures, *metrics: str, floors: bool = False) -> Record:
    generated = evaluator.given(pictures.images, pictures.labels, metrics=metrics)
    return evaluator.record(generated, with_floors=floors, weights="given", source="", step=None)


def test_figures_see_the_damage_that_the_documentation_says_they_see(evaluator: Evaluator) -> None:
    """Of test images against the validation images: none at all, little, and much."""
    test = evaluator.data.test
    real = Pictures(test.images[:400], test.labels[:400])

    def badness(pictures: Pictures) -> dict[str, float]:
        figures = record(evaluator, pictures, "fid", "sfid", "swd", "swd_fine", "label_accuracy", "intra_fid").figures
        return figures | {"label_accuracy": -figures["label_accuracy"]}

    none = badness(real)
    for damage, names in SEES.items():
        little, much = (badness(DAMAGES[damage](real, STRENGTHS[damage][i], real)) for i in (1, 3))
        for name in names:
            assert none[name] < little[name] < much[name], (damage, name)
        for name in BLIND.get(damage, ()):
            assert none[name] == little[name] == much[name], (damage, name)


def test_figures_of_texture_stand_under_their_protocol_with_floors(evaluator: Evaluator) -> None:
    test = evaluator.data.test
    found = record(evaluator, Pictures(test.images[:300], test.labels[:300]), "sfid", "swd", floors=True)
    assert set(found.named()) == {"quality/sfid/mnist-cnn/val-300", "quality/swd/mnist-cnn/val-300"}
    for name, value in found.figures.items():  # both are of real images
        assert 0.5 < found.floors[name] / value < 2, name
