"""What ships of MNIST beside the cache: that a first run finds it, and that it is what would be computed."""

import pytest
from command import condgen

from condgen.config.build import build
from condgen.dataset import composed_data
from condgen.metrics import kept
from condgen.metrics.catalogue import TEXTURE
from condgen.metrics.evaluator import Evaluator

pytestmark = pytest.mark.slow
COUNT = 5000


def test_a_first_run_computes_nothing_slow_of_the_real_images(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path / "cache"))
    short = ("trainer.accelerator=cpu", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    result = condgen("train", *short, cwd=tmp_path)
    assert result.code == 0, result
    made = {file.name.partition("-mnist-cnn-")[0] for file in (tmp_path / "cache" / "metrics").glob("*.safetensors")}
    assert "features" in made and not made & {"reference", "floors", "texture-floors"}


def test_what_ships_is_what_would_be_computed(tmp_path, monkeypatch):
    (floors,) = (kept.intact(file) for file in kept.SHIPPED.glob("floors-*"))
    (texture,) = (kept.intact(file) for file in kept.SHIPPED.glob("texture-floors-*"))
    shipped = {name: value.item() for name, value in (floors | texture).items()}
    assert shipped.keys() & {*TEXTURE} and "authenticity" in shipped
    config = composed_data("evaluate", "mnist", [])
    extractor, data = build("extractor", config["extractor"]), build("data", config["data"])
    known = Evaluator(extractor, data, "val").known([*shipped]).tensors()
    monkeypatch.setattr(kept, "SHIPPED", tmp_path / "nothing")
    evaluator = Evaluator(extractor, data, "val")
    for name, value in evaluator.known([*shipped]).tensors().items():
        assert (value - known[name]).abs().max() < 1e-3 * value.abs().max(), name
    assert evaluator.floors(COUNT, [*shipped]) == pytest.approx(shipped, rel=1e-3)
