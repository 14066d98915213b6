"""Mean embeddings: what one image can move, the noise on them, and a generator that they train."""

from functools import partial
from pathlib import Path

import pytest
import torch
from command import TINY, condgen, only_run
from torch import Tensor

from condgen.conditions import ClassLabel, OneHot
from condgen.data.loader import BatchLoader
from condgen.generators.gan import GANGenerator
from condgen.losses.mean_embedding import Features, LayerFeatures, RandomFeatures
from condgen.metrics.perception import ShippedLayers
from condgen.nets.mlp import MLPGenerator
from condgen.spaces import Images
from condgen.training.merf import MERF

PLAN = ("data=mnist", "model=merf", *TINY, "loss.features=64", "data.batch_size=1000", "trainer.max_epochs=1")
PRIVATE = ("privacy=dp", "privacy.epsilon=1", "privacy.secret=3", "privacy.accountant=rdp")


def test_features_have_norm_one_and_their_products_are_the_kernel() -> None:
    features = RandomFeatures(20_000, [2.0, 5.0])
    stream = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 1, 3, 3, generator=stream)
    torch.testing.assert_close(features(x).norm(dim=1), torch.ones(6))
    squares = (x - y).flatten(1).square().sum(1)
    kernel = sum((-squares / (2 * b**2)).exp() for b in (2.0, 5.0)) / 2
    torch.testing.assert_close((features(x) * features(y)).sum(1), kernel, atol=0.03, rtol=0)


def test_the_embedding_is_released_once_with_the_noise_of_one_gaussian_mechanism(tmp_path: Path) -> None:
    plain, private = tmp_path / "plain", tmp_path / "private"
    plain.mkdir(), private.mkdir()
    assert condgen("train", *PLAN, cwd=plain).code == 0
    assert condgen("train", *PLAN, *PRIVATE, cwd=private).code == 0
    without, stored = (
        torch.load(only_run(place) / "checkpoints" / "last.ckpt", weights_only=True) for place in (plain, private)
    )
    budget = stored["privacy"]
    assert (budget["steps"], budget["done"], budget["rate"]) == (1, 1, 1.0)
    assert 0.9 < budget["spent"] <= 1
    noise = stored["state_dict"]["sums"] - without["state_dict"]["sums"]
    # Of norm 1 for the features, and a tenth for the constant that counts the class.
    assert abs(noise.std().item() / (budget["noise"] * 1.01**0.5) - 1) < 0.1
    counts = without["state_dict"]["sums"][:, -1] / 0.1
    assert round(counts.sum().item()) == 55_000
    # A longer run spends nothing further.
    assert condgen("resume", only_run(private), "trainer.max_epochs=2", cwd=private).code == 0
    longer = torch.load(only_run(private) / "checkpoints" / "last.ckpt", weights_only=True)
    assert longer["privacy"] == budget
    assert torch.equal(longer["state_dict"]["sums"], stored["state_dict"]["sums"])


class Loud(Features):
    """Features that keep no bound."""

    def __call__(self, x: Tensor) -> Tensor:
        return 40 * x.flatten(1)


LAYERS = partial(ShippedLayers, "fashion-cnn", blocks=2)
PHI = {
    "random": RandomFeatures(64, [2.0, 5.0]),
    "layers": LayerFeatures(LAYERS, [1, 2]),
    "kernel": LayerFeatures(LAYERS, [2], RandomFeatures(64, [0.5])),
    "loud": Loud(),
}


@pytest.mark.parametrize("name", PHI)
def test_no_image_moves_the_sums_by_more_than_the_noise_is_measured_by(name: str) -> None:
    classes, space = ClassLabel(["0", "1", "2"]), Images((1, 28, 28))
    network = partial(MLPGenerator, hidden=[8], embedding=OneHot)
    model = MERF(
        space, classes, PHI[name], partial(GANGenerator, network=network, latent=2), partial(torch.optim.Adam, lr=1e-3)
    )
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (7, 1, 28, 28), generator=stream, dtype=torch.uint8)
    images[-1], images[-2] = 0, 255  # as dark and as light as an image can be
    labels = torch.arange(7) % 3

    def summed(rows: list[int]) -> Tensor:
        return model.summed(BatchLoader(images[rows], labels[rows], 4))

    whole = summed(list(range(7)))
    for left_out in range(7):
        moved = (whole - summed([row for row in range(7) if row != left_out])).norm()
        assert moved <= 1.01**0.5 * 1.0001, left_out


def test_a_killed_run_by_layers_goes_on_to_the_same_bits_and_spends_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    few = ("data.split=[0.005,0.005,0.99]", "data.batch_size=40", "loss.kernel.features=16", "privacy.delta=1e-4")
    small = ("trainer.max_steps=4", "trainer.max_epochs=-1", "callbacks.checkpoint.every_steps=1")
    plan = ("data=mnist", "model=merf_conv", *TINY, *PRIVATE, *few, *small)
    assert condgen("train", *plan, cwd=whole).code == 0
    step = MERF.training_step

    def dying(self: MERF, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if self.counts.batches == 4:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(MERF, "training_step", dying)
        assert condgen("train", *plan, cwd=killed).code == 70
    assert condgen("resume", only_run(killed), cwd=killed).code == 0
    wanted, found = (torch.load(only_run(place) / "checkpoints" / "last.ckpt", weights_only=True) for place in (whole, killed))
    assert wanted["privacy"] == found["privacy"] and wanted["privacy"]["spent"] <= 1
    for name, tensor in wanted["state_dict"].items():
        assert torch.equal(tensor, found["state_dict"][name]), name


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.bandwidths=[0.0]", "loss.bandwidths must be"),
        ("privacy.epsilon=-1", "privacy.epsilon must be"),
        ("model=merf_conv loss.network.name=mnist-cnn loss.kernel=null", "was trained on the same data (MNIST)"),
        ("model=merf_conv loss.layers=[7] loss.kernel=null", "more than the 3 layers"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    fitting = [word for word in PLAN if "merf_conv" not in override or not word.startswith(("model=", "loss."))]
    refused = condgen("train", *fitting, *PRIVATE, *override.split(), cwd=tmp_path)
    assert refused.code == 1 and sentence in refused.err.splitlines()[-1]
