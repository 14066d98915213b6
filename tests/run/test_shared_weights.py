"""What measures samples cannot be what they were trained to please."""

from pathlib import Path

import pytest
from command import condgen
from PIL import Image

FOLDER = ("model=stylization", "data=folder", "data.batch_size=2", "data.image_size=32", "trainer=cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (32, 32), (20 * i, 90, 40)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_the_extractor_and_the_loss_may_not_share_weights(photos: Path) -> None:
    refused = condgen("train", *FOLDER, f"data.source.path={photos}", "extractor=cifar10-resnet", cwd=photos.parent)
    assert refused.code == 1 and "cifar10-resnet" in refused.err and "extractor=none" in refused.err
    run = f"hydra.run.dir={photos.parent / 'run'}"
    small = (
        "trainer.max_steps=1",
        "model.generator.network.width=4",
        "model.generator.network.blocks=1",
        "callbacks.samples=null",
    )
    assert condgen("train", *FOLDER, *small, f"data.source.path={photos}", "extractor=none", run, cwd=photos.parent).code == 0
