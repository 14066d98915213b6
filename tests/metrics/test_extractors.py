"""The networks that look at images: the shipped ones keep their card's word, others say clearly why they do not fit."""

import hashlib
import json
import os
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.data.sources import CIFAR10, MNIST, FashionMNIST
from condgen.errors import CondgenError
from condgen.metrics.extractors import SHIPPED, Custom, Extractor, Inception, Shipped
from condgen.spaces import to_float

DIGITS = [str(digit) for digit in range(10)]
CIFAR = Path(os.environ.get("CONDGEN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "cifar10" / "train.zip"


class Tiny(nn.Module):
    """A classifier such as a user would bring: logits only, ten classes of 8x8 grey images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def tiny(**changes: object) -> Custom:
    """A custom extractor around `Tiny`."""
    return Custom(**{"name": "tiny", "network": Tiny(), "shape": [1, 8, 8]} | changes)  # type: ignore[arg-type]


def accuracy(extractor: Extractor, images: Tensor, labels: Tensor) -> float:
    """Share of images whose class the extractor names."""
    return float((extractor(images)[1].argmax(1) == labels).float().mean())


@pytest.mark.parametrize(
    ("name", "megabytes"), [("mnist-cnn", 2), ("fashion-cnn", 3), ("cifar10-resnet", 12), ("cifar10-rotation", 1)]
)
def test_a_shipped_extractor_is_small_and_is_what_its_card_says(name: str, megabytes: int) -> None:
    card = json.loads((SHIPPED / f"{name}.json").read_text())
    content = (SHIPPED / f"{name}.safetensors").read_bytes()
    assert len(content) < megabytes * 1e6
    assert hashlib.sha256(content).hexdigest() == card["sha256"] == Shipped(name).sha256
    assert {"data", "accuracy", "command", "parameters"} <= card.keys()


def test_the_extractor_of_mnist_reaches_its_accuracy_on_the_test_images() -> None:
    test = MNIST().load().test
    assert test is not None
    measured = accuracy(Shipped("mnist-cnn"), test.images, test.labels)
    assert measured >= 0.995
    assert measured == pytest.approx(json.loads((SHIPPED / "mnist-cnn.json").read_text())["accuracy"]["test"], abs=2e-4)


@pytest.mark.slow
def test_the_extractor_of_clothes_reaches_its_accuracy_on_the_test_images() -> None:
    try:
        test = FashionMNIST().load().test
    except CondgenError as error:
        pytest.skip(f"Fashion-MNIST is not here: {error}")
    assert test is not None
    card = json.loads((SHIPPED / "fashion-cnn.json").read_text())["accuracy"]["test"]
    assert card >= 0.935
    assert accuracy(Shipped("fashion-cnn"), test.images, test.labels) == pytest.approx(card, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("cifar10-resnet", 0.93), ("cifar10-rotation", 0.74)])
def test_the_extractors_of_cifar10_reach_their_accuracy_on_test_images(name: str, least: float) -> None:
    if not CIFAR.exists():
        pytest.skip(f"CIFAR-10 is not here: {CIFAR}")
    test = CIFAR10(archive=str(CIFAR)).load().test
    assert test is not None
    measured = accuracy(Shipped(name), test.images[:2000], test.labels[:2000])
    card = json.loads((SHIPPED / f"{name}.json").read_text())["accuracy"]["test"]
    error = (card * (1 - card) / 2000) ** 0.5
    assert card >= least and measured == pytest.approx(card, abs=3 * error)


def test_features_are_what_the_last_linear_layer_sees() -> None:
    images = torch.randint(256, (7, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor, network = tiny(), Tiny()
    features, logits = extractor(images)
    assert torch.allclose(features, network.body(to_float(images)), atol=1e-6)
    assert torch.allclose(logits, network(to_float(images)), atol=1e-6)


def test_an_extractor_stays_frozen_and_in_eval_mode_and_out_of_autocast() -> None:
    extractor = Shipped("mnist-cnn")
    images = torch.randint(256, (300, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = extractor(images)[0]
    extractor.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(extractor(images)[0], before)
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_other_sizes_are_refused_unless_a_resize_is_named_and_then_stated() -> None:
    with pytest.raises(CondgenError, match=r"takes images of 1x8x8 and the samples are 1x9x9: extractor.resize=bilinear"):
        tiny().resizing((1, 9, 9), "the samples")
    with pytest.raises(CondgenError, match="grey"):
        tiny(resize="bilinear").resizing((3, 8, 8), "the samples")
    extractor = tiny(resize="bilinear", antialias=False)
    assert extractor.resizing((1, 9, 9), "the samples") == "1x9x9 to 1x8x8, bilinear, not antialiased"
    assert extractor.resizing((1, 8, 8), "the samples") == "none"
    assert extractor(torch.zeros(2, 1, 9, 9, dtype=torch.uint8))[0].shape == (2, 12)


def test_classes_are_matched_by_name() -> None:
    named = tiny(classes=DIGITS)
    assert named.recognizes(["7", "2"], 10).tolist() == [-1, -1, 1, -1, -1, -1, -1, 0, -1, -1]  # type: ignore[union-attr]
    assert tiny().recognizes(DIGITS, 10).tolist() == list(range(10))  # type: ignore[union-attr]
    assert named.recognizes([], 10) is None
    with pytest.raises(CondgenError, match="tells 10 classes apart and the data have 3"):
        tiny().recognizes(["a", "b", "c"], 10)
    with pytest.raises(CondgenError, match=r"tells 10 classes apart \(0, 1, 2, ...\) and the data have 2 \(cat, dog, ...\)"):
        named.recognizes(["cat", "dog"], 10)


def test_weights_of_a_user_are_loaded_safely(tmp_path: Path) -> None:
    other = Tiny()
    torch.nn.init.ones_(other.head.weight)
    torch.save(other.state_dict(), tmp_path / "net.pt")
    safetensors.torch.save_file(other.state_dict(), tmp_path / "net.safetensors")
    for file in ("net.pt", "net.safetensors"):
        loaded = tiny(weights=str(tmp_path / file))
        assert torch.equal(loaded.network.head.weight, other.head.weight)  # type: ignore[union-attr, arg-type]
        assert loaded.sha256 == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() != tiny().sha256
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")  # a pickled module would run code when loaded
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "net.safetensors").read_bytes()[:100])
    for file in ("whole.pt", "cut.safetensors", "absent.pt"):
        with pytest.raises(CondgenError, match=rf"The weights .*{file} could not be read"):
            tiny(weights=str(tmp_path / file))
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(CondgenError, match=r"foreign.pt do not fit Tiny"):
        tiny(weights=str(tmp_path / "foreign.pt"))


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(CondgenError, match=r"has no torch.nn.Linear"):
        tiny(network=nn.Sequential(nn.Flatten()))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for the Inception network: the published ones cannot be fetched by a test."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(fidelity.FeatureExtractorInceptionV3("random", ["2048"]).state_dict(), path)
    return path


@pytest.mark.slow
def test_inception_is_torch_fidelitys(inception_weights: Path) -> None:
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = fidelity.FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(inception_weights))
    with torch.inference_mode():
        wanted = theirs(images)
    extractor = Inception(str(inception_weights))
    found = extractor(images)
    for mine, published in zip(found, wanted, strict=True):  # equal but for the order in which convolutions add up
        torch.testing.assert_close(mine, published, rtol=1e-4, atol=1e-9)
    grey = images[:, :1]
    assert torch.equal(extractor(grey)[0], extractor(grey.expand(-1, 3, -1, -1))[0])
    assert extractor.recognizes(DIGITS, 1008) is None
    assert "299" in extractor.resizing((3, 32, 32), "the samples")


def test_inception_that_can_be_had_in_no_way_says_both_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(CondgenError, match=r"could not be downloaded from https.*go online once, or .* extractor.weights=PATH"):
        Inception()


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "extractor").glob("*.yaml")))
def test_every_choice_of_the_group_composes_and_every_card_has_one(name: str) -> None:
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        node = compose("train", [f"extractor={name}"]).extractor
    if (SHIPPED / f"{name}.json").exists():
        assert build("extractor", plain(node)).name == name
    else:
        assert name in ("custom", "inception", "none")
