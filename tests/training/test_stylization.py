"""Style transfer: what it learns in a few steps, what it is asked, what it refuses.

What it shares with the other families of one network is in test_single_network.py.
"""

import numpy as np
import pytest
import torch
from command import condgen
from PIL import Image
from recipes import fit, make_model

from condgen.conditions import Photo, Styles, Together
from condgen.errors import CondgenError

SHAPE = (3, 16, 16)
STYLES = Together(Styles(["stripes", "checks", "dots", "waves", "mosaic"]), Photo(SHAPE))
SMALL = (
    "model=stylization",
    "model.generator.network.width=8",
    "model.generator.network.blocks=1",
    "model.generator.network.kernel=3",
)


def batches(count, size=8):
    stream = torch.Generator().manual_seed(0)
    for _ in range(count):
        x = torch.rand(size, *SHAPE, generator=stream) * 2 - 1
        styles = STYLES.from_data(torch.zeros(size))
        yield x, STYLES.complete(styles, x, torch.empty(size, 0))


def small(*overrides):
    return make_model(*SMALL, *overrides, shape=SHAPE, condition=STYLES)


def test_its_objective_falls():
    model = small("model.optimizer.lr=2e-2")
    model.setup()
    (_, condition), *_ = data = list(batches(20))
    with torch.no_grad():
        before = model.terms(model.generator.network, condition)["loss"].mean()
    fit(model, data)
    with torch.no_grad():
        after = model.terms(model.generator.network, condition)["loss"].mean()
    assert after < 0.8 * before


def test_the_same_photo_differs_by_style_and_nothing_is_random():
    model = small()
    fit(model, list(batches(2)))
    drawing = model.generator
    photo = torch.rand(*SHAPE) * 2 - 1
    asked = STYLES.ask("style=0-4", photo)
    drawn = drawing.sample(asked, seed=0)
    assert drawn.shape == (5, *SHAPE) and torch.equal(drawn, drawing.sample(asked, seed=1))
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert STYLES.describe(asked)[2] == "style=dots"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["loss=bce"], "loss=perceptual"),
        (["model.styles=[stripes]"], "condition.said.styles"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(CondgenError, match=message):
        small(*overrides)


def test_a_condition_without_an_image_is_refused():
    with pytest.raises(CondgenError, match="condition=style"):
        make_model(*SMALL, shape=SHAPE)


def test_a_user_trains_and_draws_a_photo_in_a_style(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    folder = tmp_path / "photos" / "all"
    folder.mkdir(parents=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image).resize((16, 16)).save(folder / f"{i}.png")
    Image.fromarray(pixels[0]).resize((40, 30)).save(tmp_path / "photo.png")
    Image.fromarray(pixels[1]).save(tmp_path / "monet.png")
    own = [
        "condition.said.styles=[waves,monet.png]",
        "data=folder",
        "data.source.path=photos",
        "data.batch_size=4",
        "extractor=none",
    ]
    quiet = ["trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none", "hydra.run.dir=run"]
    result = condgen("train", "experiment=none", *SMALL, *own, *quiet, cwd=tmp_path)
    assert result.code == 0, result
    (tmp_path / "monet.png").unlink()  # only training looks at styles
    asked = ["--image", "photo.png", "--condition", "style=monet", "--count", "1", "--out", "out.png"]
    result = condgen("sample", "run", *asked, cwd=tmp_path)
    assert result.code == 0 and Image.open(tmp_path / "out.png").size == (38, 20), result  # the photo, and its drawing
    for wrong, message in (
        (["--condition", "style=7"], "it can be waves, monet"),
        (["--condition", "style=1"], "--image"),
        (["--image", "no.png"], "not a file"),
    ):
        result = condgen("sample", "run", *wrong, "--out", "x.png", cwd=tmp_path)
        assert result.code == 1 and message in result.err and not (tmp_path / "x.png").exists(), result
