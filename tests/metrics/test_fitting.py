"""Training classifiers: they learn, and a training that was stopped ends as one that was not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from condgen.augment.images import Crop
from condgen.data.sources import MNIST
from condgen.metrics.fitting import Recipe, accuracy, fit, triangle
from condgen.nets.classifier import Classifier
from condgen.spaces import Images

SPACE = Images((1, 28, 28), [-0.74], [0.61])


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """2,000 training images and their labels."""
    train = MNIST().load().train
    return train.images[:2000], train.labels[:2000]


def fresh() -> Classifier:
    """A small classifier, always the same."""
    torch.manual_seed(0)
    return Classifier(SPACE, 10, (8, 16, 16))


class Killed(Exception):
    """Stands for the signal."""


def test_a_classifier_learns_and_its_whitening_is_fixed(digits: tuple[Tensor, Tensor]) -> None:
    network = fresh()
    fit(network, *digits, Recipe(epochs=6, batch_size=200, rate=0.5, shift_scale=1.0))
    assert accuracy(network, *digits) > 0.9
    assert not network.training
    patches = torch.nn.functional.unfold(network[0](digits[0].float() / 127.5 - 1), 2).transpose(1, 2).flatten(0, 1)
    white = patches @ network[1].weight.flatten(1)[:4].T  # type: ignore[operator, union-attr]
    covariance = white.T @ white / len(white)
    assert torch.allclose(covariance, torch.eye(4), atol=0.1)  # up to the small variance that is added


def test_a_training_that_was_stopped_ends_as_one_that_was_not(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    recipe, augment = Recipe(epochs=4, batch_size=500, rate=0.5, shift_scale=1.0), Crop(2)
    whole = fresh()
    fit(whole, *digits, recipe, augment=augment)

    def stop(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(fresh(), *digits, recipe, augment=augment, checkpoint=tmp_path / "draft.ckpt", report=stop)
    resumed = fresh()
    fit(resumed, *digits, recipe, augment=augment, checkpoint=tmp_path / "draft.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_rate_rises_and_falls() -> None:
    assert triangle(0) == pytest.approx(0.2) and triangle(0.23) == pytest.approx(1) and triangle(1) == pytest.approx(0.07)
