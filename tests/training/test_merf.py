"""Mean embeddings: what one image can move, the noise on them, and a generator that they train."""

from pathlib import Path

import pytest
import torch
from command import TINY, condgen, only_run

from condgen.losses.mean_embedding import RandomFeatures

MERF = ("data=mnist", "model=merf", *TINY, "loss.features=64", "data.batch_size=1000", "trainer.max_epochs=1")
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
    assert condgen("train", *MERF, cwd=plain).code == 0
    assert condgen("train", *MERF, *PRIVATE, cwd=private).code == 0
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


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.bandwidths=[0.0]", "loss.bandwidths must be"),
        ("privacy.epsilon=-1", "privacy.epsilon must be"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    fitting = [word for word in MERF if override != "loss=hinge" or not word.startswith("loss.")]  # hinge has no features
    assert sentence in condgen("train", *fitting, *PRIVATE, override, cwd=tmp_path).sentence()
