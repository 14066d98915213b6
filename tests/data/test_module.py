"""The DataModule: splits, subsets, imbalance, sizes, colours, statistics, sentences, and resuming inside a real Trainer."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from condgen.augment.images import Crop, Flip
from condgen.conditions import Attributes, ClassLabel, Keywords, NoCondition
from condgen.data import DataModule
from condgen.data.sources import MNIST
from condgen.data.tables import AS_IS, Table, Tables
from condgen.errors import CondgenError

CONF = Path(__file__).parents[2] / "conf" / "data"


class Tiny:
    """A source in memory; every image tells its number in its first two pixels."""

    def __init__(self, sizes=(40, 30, 10), test=True, shape=(1, 6, 6)):
        self.sizes, self.test, self.shape = sizes, test, shape

    def table(self, start):
        labels = torch.cat([torch.full((size,), label) for label, size in enumerate(self.sizes)])
        images = torch.randint(0, 256, (len(labels), *self.shape), generator=torch.Generator().manual_seed(start)).byte()
        images[:, 0, 0, 0], images[:, 0, 0, 1] = start, torch.arange(len(labels)).byte()
        return Table(images, labels)

    def load(self, decoding=AS_IS):
        return Tables(self.table(0), self.table(1) if self.test else None, ["ant", "bee", "cat"])


def module(source=None, condition=ClassLabel, **options):
    options = {"batch_size": 8, "split": 16} | options
    return DataModule(source or Tiny(), condition, **options)


def numbers(part):
    return {(int(image[0, 0, 0]), int(image[0, 0, 1])) for image in part.images}


def counts(part):
    return part.labels.bincount(minlength=3).tolist()


@pytest.fixture(scope="session")
def mnist():
    data = DataModule(MNIST(), ClassLabel, split=5000)
    data.prepare()
    return data


def test_mnist_is_split_by_class(mnist):
    assert (len(mnist.train), len(mnist.val), len(mnist.test)) == (55000, 5000, 10000)
    whole, val = MNIST().load().train.labels.bincount(), mnist.val.labels.bincount()
    assert ((val - whole / 12).abs() < 1).all() and torch.equal(mnist.train.labels.bincount() + val, whole)
    assert not set(mnist.train.rows.tolist()) & set(mnist.val.rows.tolist())


def test_mnist_statistics_are_exact(mnist):
    pixels = mnist.train.images.numpy().astype("float64") / 127.5 - 1
    assert mnist.space.shape == (1, 28, 28)
    assert mnist.space.mean[0] == pytest.approx(pixels.mean(), abs=1e-12)
    assert mnist.space.deviation[0] == pytest.approx(pixels.std(), abs=1e-12)


def test_statistics_are_of_each_channel_of_the_training_part_alone():
    data = module(Tiny(shape=(3, 6, 6)))
    pixels = data.train.images.double() / 127.5 - 1
    torch.testing.assert_close(torch.tensor(data.space.mean).double(), pixels.mean((0, 2, 3)), atol=1e-6, rtol=0)
    deviation = pixels.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(torch.tensor(data.space.deviation).double(), deviation, atol=1e-6, rtol=0)


def test_own_split_keeps_the_test_part():
    data = module()
    assert [counts(part) for part in (data.train, data.val, data.test)] == [[32, 24, 8], [8, 6, 2], [40, 30, 10]]
    assert {start for start, _ in numbers(data.test)} == {1} and {start for start, _ in numbers(data.train)} == {0}
    assert not numbers(data.train) & numbers(data.val)


@pytest.mark.parametrize("test", [True, False])
def test_fractions_split_everything(test):
    data = module(Tiny(test=test), split=[0.7, 0.15, 0.15])
    total = 160 if test else 80
    parts = [numbers(part) for part in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [total * 70 // 100, total * 15 // 100, total * 15 // 100]
    assert len(set.union(*parts)) == total
    for part, fraction in zip((data.train, data.val, data.test), (0.7, 0.15, 0.15), strict=True):
        expected = [size * total / 80 * fraction for size in (40, 30, 10)]
        assert all(abs(found - value) <= 1 for found, value in zip(counts(part), expected, strict=True))


def test_the_split_depends_on_its_own_seed_alone():
    reference = numbers(module().val)
    assert numbers(module(seed=7).val) == reference
    assert numbers(module(split_seed=1).val) != reference


def test_imbalance_thins_the_training_part_alone():
    data = module(imbalance={"ant": 0.5, 2: 0.01})
    assert [counts(part) for part in (data.train, data.val, data.test)] == [[16, 24, 1], [8, 6, 2], [40, 30, 10]]
    assert numbers(data.val) == numbers(module().val)
    assert numbers(data.train) == numbers(module(imbalance={"ant": 0.5, 2: 0.01}, seed=5).train)


def test_classes_are_relabelled_in_the_order_given():
    data = module(classes=["cat", 0], split=10)
    assert data.condition.classes == ["cat", "ant"]
    assert [counts(part)[:2] for part in (data.train, data.val, data.test)] == [[8, 32], [2, 8], [10, 40]]
    cats = data.train.images[data.train.labels == 0]
    assert set(cats[:, 0, 0, 1].tolist()) <= set(range(70, 80))  # the numbers that cats had in the whole set


def test_unconditional():
    data = module(condition=NoCondition)
    x, condition = next(iter(data.train_dataloader()))
    assert x.shape == (8, 1, 6, 6) and condition.shape == (8, 0)


def test_grey_to_colour_and_back():
    grey = module(channels=1)
    assert torch.equal(grey.train.table.images, grey.source.load().train.images)
    assert torch.equal(module(channels=3).train.images, grey.train.images.expand(-1, 3, -1, -1))
    assert torch.equal(module(channels=3).test.images[:, :1], grey.test.images)
    colour = module(Tiny(shape=(3, 6, 6)))
    found = module(Tiny(shape=(3, 6, 6)), channels=1).train.images
    for image, expected in zip(found[:8], colour.train.images[:8], strict=True):
        luma = torch.tensor(list(Image.fromarray(expected.permute(1, 2, 0).numpy()).convert("L").tobytes())).view(6, 6)
        assert (image[0].int() - luma).abs().max() <= 1


@pytest.mark.parametrize("size", [4, 6, 9])
def test_resize_is_antialiased_and_rounded(size):
    data, original = module(image_size=size), module()
    assert data.space.shape == (1, size, size)
    for image, expected in zip(data.train.images[:8], original.train.images[:8], strict=True):
        resized = Image.fromarray(expected[0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
        assert (image[0].int() - torch.tensor(list(resized.tobytes())).view(size, size)).abs().max() <= 1


def test_oblong_images_are_cropped_not_squeezed():
    shape = (1, 6, 10)
    assert torch.equal(module(Tiny(shape=shape), image_size=6).train.images, module(Tiny(shape=shape)).train.images[..., 2:8])


def test_loaders_without_a_trainer():
    data = module(augment=[Flip(), Crop(1)], batch_size=10)
    assert [len(loader) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())] == [6, 2, 8]
    assert len(module(batch_size=10, drop_last=False).train_dataloader()) == 7
    x = torch.cat([x for x, _ in data.val_dataloader()])
    assert torch.equal(((x + 1) * 127.5).round().byte(), data.val.images)  # in order, unaugmented
    assert torch.equal(torch.cat([c for _, c in data.ordered(data.train)]), data.train.labels)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"batch_size": 65}, r"data.batch_size=65 .* 64 training images"),
        ({"split": 80}, r"data.split=80: 80 validation images leave none of 80"),
        ({"split": 3}, r"data.split .*validation part without an image of class cat"),
        ({"split": [0.5, 0.4, 0.2]}, r"data.split=.* sum 1"),
        ({"split": 10, "source": Tiny(test=False)}, r"data.split=10 needs a set with a test part"),
        ({"classes": []}, r"data.classes is empty"),
        ({"classes": ["dog"]}, r"data.classes: .* no class 'dog': it has 0-2 and the names ant, bee, cat"),
        ({"classes": [3]}, r"data.classes: .* no class '3'"),
        ({"classes": ["ant", 0]}, r"data.classes names the class ant twice"),
        ({"imbalance": {"dog": 0.5}}, r"data.imbalance: .* no class 'dog'"),
    ],
)
def test_impossible_arguments_are_told_in_a_sentence(options, sentence):
    with pytest.raises(CondgenError, match=sentence) as caught:
        module(**options).prepare()
    assert "\n" not in str(caught.value)


def test_no_test_part_is_told():
    data = module(split=[0.8, 0.2, 0])
    with pytest.raises(CondgenError, match="no test part"):
        data.test_dataloader()


def test_an_uneven_last_batch_is_told():
    data = module(batch_size=12, drop_last=False)
    data.trainer = SimpleNamespace(world_size=3, overfit_batches=0)
    with pytest.raises(CondgenError, match=r"data.drop_last=false .* 3 processes"):
        data.train_dataloader()


NAMES = sorted(file.stem for file in CONF.glob("[!_]*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_makes_a_module_and_every_key_is_an_argument(name, tmp_path, make_zip, make_folder):
    files = {
        "folder": lambda: make_folder({f"{name}/{i}.png": torch.zeros(4, 4).byte().numpy() for name in "ab" for i in range(9)}),
        "archive": lambda: make_zip("a.zip", [torch.zeros(4, 4).byte().numpy()] * 18, [0, 1] * 9),
    }
    overrides = [f"data.source.path={files[name]()}", "data.batch_size=4"] if name in files else []
    overrides += ["data.source.path=faces"] * (name in ("audio", "shards", "spoken_digits", "table"))
    overrides += ["data.source.file=texts.csv"] * (name in ("text", "tagged"))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "data").symlink_to(CONF)
    for group in ("extractor", "condition"):
        (tmp_path / "conf" / group).symlink_to(CONF.parent / group)
    top = {"defaults": [{"extractor": "none"}, {"condition": "class"}, {"data": name}, "_self_"], "seed": 3}
    OmegaConf.save(top, tmp_path / "conf" / "top.yaml")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        config = compose("top", overrides=[*overrides, "data.split=[0.5,0.25,0.25]", "data.imbalance={0: 0.5}"])
    data = instantiate(config.data)
    assert isinstance(data, DataModule) and data.seed == 3
    own = {"mnist_attributes": Attributes, "spoken_digits": Attributes, "table": Attributes}
    own |= {"tagged": Attributes}
    own |= {"songci": Keywords, "text": Keywords}
    assert data.make_condition.func is own.get(name, ClassLabel)
    assert data.split == [0.5, 0.25, 0.25] and isinstance(data.make_condition, partial)
    if name in (*files, "mnist"):
        data.prepare()
        assert len(data.train) and len(data.val) and len(data.test)


def test_canaries_are_among_the_training_images_by_the_toss_of_a_coin():
    plain, data = module(), module(canaries=200)
    inside, outside = data.canaries
    assert plain.canaries is None and len(inside) + len(outside) == 200 and 70 < len(inside) < 130
    assert len(data.train) == len(plain.train) + len(inside)
    assert torch.equal(data.train.images, torch.cat([plain.train.images, inside.images]))
    for part in ("val", "test"):
        assert torch.equal(getattr(data, part).images, getattr(plain, part).images)
    assert torch.equal(module(canaries=200, seed=5).canaries[1].images, outside.images)  # whatever seed trains
    assert not torch.equal(module(canaries=200, split_seed=5).canaries[1].images[:9], outside.images[:9])
    loaded = torch.cat([condition for _, condition in data.ordered(data.train)])
    assert torch.equal(loaded[-len(inside) :], inside.labels)


def test_canaries_need_images_in_memory():
    class Ring:
        def load(self, decoding=AS_IS):
            return Tables(Table(torch.zeros(60, 2), torch.arange(60) % 3), None, ["ant", "bee", "cat"])

    with pytest.raises(CondgenError, match="set it to 0"):
        module(Ring(), split=[0.5, 0.25, 0.25], canaries=3).prepare()
