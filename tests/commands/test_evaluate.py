"""``condgen evaluate`` on trained models and on images of other code."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import FEWER, Result
from numpy.typing import NDArray
from PIL import Image

from condgen.data.sources import MNIST
from condgen.data.split import cut
from condgen.metrics.record import Record, read_records

FEW = ("suite=[fid,intra_fid,label_accuracy]", FEWER)
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """2,000 real training images (N, H, W, C) in the proportions of their classes, and their labels."""
    train = MNIST().load().train
    rows = cut(train.labels, 2000, ("digits",))[1]
    return train.images[rows].permute(0, 2, 3, 1).numpy(), train.labels[rows].numpy()


def measured(result: Result, folder: Path) -> Record:
    """Return the record that a successful command wrote below ``folder``."""
    assert result.code == 0, result
    (path,) = folder.rglob("metrics.json")
    (record,) = read_records(path)
    return record


def test_a_run_is_measured_twice_alike_and_beside_its_checkpoints(run_condgen: Run, gan_run: Path, tmp_path: Path) -> None:
    first = measured(run_condgen("evaluate", gan_run, *FEW, "samples=500", "--out", "a"), tmp_path / "a")
    second = measured(run_condgen("evaluate", gan_run, *FEW, "samples=500", "--out", "b"), tmp_path / "b")
    assert first == second
    assert first.protocol.name == "mnist-cnn/test-500" and first.protocol.real == 10_000
    assert first.figures.keys() == first.floors.keys() == {"fid", "intra_fid", "label_accuracy"}
    assert first.floors["fid"] < 20 < first.figures["fid"]  # three updates teach nothing
    assert first.floors_of == "validation images" and first.floors["label_accuracy"] < 0.998  # the extractor has not seen them
    assert np.sum(first.confusion) == 500 and first.classes == [str(d) for d in range(10)]
    names = {"metrics.json", *(f"{name}.png" for name in ("samples", "confusion", "neighbours", "latents", "classes"))}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    other = measured(run_condgen("evaluate", gan_run, *FEW, "samples=500", "seed=1", "--out", "c"), tmp_path / "c")
    assert other.figures["fid"] != first.figures["fid"]


def test_real_images_in_an_npz_reach_the_floor_and_shuffled_labels_expose_an_ignored_condition(
    run_condgen: Run, digits: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path: Path
) -> None:
    images, labels = digits
    np.savez(tmp_path / "real.npz", images=images, labels=labels)
    np.savez(tmp_path / "ignoring.npz", images=images, labels=np.random.default_rng(0).permutation(labels))
    right = measured(run_condgen("evaluate", "real.npz", "data=mnist", *FEW, "--out", "real"), tmp_path / "real")
    wrong = measured(run_condgen("evaluate", "ignoring.npz", "data=mnist", *FEW, "--out", "wrong"), tmp_path / "wrong")
    assert right.protocol.weights == "given" and right.protocol.generated == 2000
    assert right.figures["label_accuracy"] > 0.99 and right.figures["fid"] == pytest.approx(right.floors["fid"], rel=0.3)
    # The same images asked for as something else: FID sees nothing, the conditional metrics see everything.
    assert wrong.figures["fid"] == pytest.approx(right.figures["fid"], rel=1e-5)
    assert 0.07 < wrong.figures["label_accuracy"] < 0.13
    assert wrong.figures["intra_fid"] > 10 * right.figures["intra_fid"]


@pytest.mark.slow
def test_the_labels_of_the_real_test_images_are_as_right_as_the_extractor(run_condgen: Run, tmp_path: Path) -> None:
    test = MNIST().load().test
    assert test is not None
    np.savez(tmp_path / "test.npz", images=test.images.permute(0, 2, 3, 1).numpy(), labels=test.labels.numpy())
    record = measured(run_condgen("evaluate", "test.npz", "data=mnist", *FEW, "--out", "out"), tmp_path / "out")
    card = json.loads((Path(__file__).parents[2] / "condgen" / "metrics" / "weights" / "mnist-cnn.json").read_text())
    assert record.figures["label_accuracy"] == pytest.approx(card["accuracy"]["test"], abs=2e-4)
    assert record.figures["fid"] == pytest.approx(0, abs=1e-3)


def test_a_folder_of_class_folders_is_read_by_name(
    run_condgen: Run, digits: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path: Path
) -> None:
    images, labels = digits
    for i in range(200):
        folder = tmp_path / "mine" / str(labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, :, :, 0]).save(folder / f"{i}.png")
    record = measured(run_condgen("evaluate", "mine", "data=mnist", *FEW, "--out", "out"), tmp_path / "out")
    assert record.protocol.generated == 200 and record.figures["label_accuracy"] > 0.97
    (tmp_path / "mine" / "0").rename(tmp_path / "mine" / "zero")
    sentence = run_condgen("evaluate", "mine", "data=mnist", "--out", "again").sentence()
    assert "no class 'zero'" in sentence and not (tmp_path / "again").exists()


def test_an_unconditional_model_has_no_figures_of_classes(run_condgen: Run, tmp_path: Path) -> None:
    arguments = ("experiment=none", "model=gan_mlp", "trainer=cpu", "trainer.limit_train_batches=2", "trainer.max_epochs=1")
    assert run_condgen("train", *arguments, "callbacks.evaluation=null", "hydra.run.dir=run").code == 0
    record = measured(run_condgen("evaluate", "run", "samples=200", "suite=all", FEWER, "--out", "out"), tmp_path / "out")
    assert {"fid", "is", "kid", "recall", "coverage", "nearest"} <= record.figures.keys()
    assert not {"label_accuracy", "intra_fid", "diversity"} & record.figures.keys()
    assert record.confusion is None and record.classes == [] and not (tmp_path / "out" / "classes.png").exists()


def test_a_model_that_knows_likelihoods_is_asked_for_those_of_real_images(run_condgen: Run, tmp_path: Path) -> None:
    tiny = ("model=cvae_mlp", "model.generator.decode_condition=false", "loss=bernoulli", "trainer.limit_train_batches=2")
    options = ("experiment=none", "trainer=cpu", "trainer.max_epochs=1", "callbacks.evaluation=null")
    assert run_condgen("train", *options, *tiny, "loss.binarize=true", "hydra.run.dir=bits").code == 0
    command = ("evaluate", "bits", "samples=100", "split=val", "likelihood=3", "suite=[elbo,iwae]", "--out", "out")
    record = measured(run_condgen(*command), tmp_path / "out")
    assert record.figures.keys() == {"elbo", "iwae"} and record.protocol.likelihood == "bits-3" and not record.floors
    assert -784 < record.figures["elbo"] < record.figures["iwae"] < -100
    assert "at least 1" in run_condgen("evaluate", "bits", "likelihood=0", "--out", "d").sentence()


@pytest.mark.slow
def test_the_classification_accuracy_score_is_computed_on_request(
    run_condgen: Run, digits: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path: Path
) -> None:
    images, labels = digits
    np.savez(tmp_path / "blank.npz", images=np.full_like(images[:512], 128), labels=labels[:512])
    command = ("evaluate", "blank.npz", "data=mnist", "suite=[cas]", "--out", "out")
    record = measured(run_condgen(*command), tmp_path / "out")
    assert record.figures["cas"] < 0.2 < 0.7 < record.floors["cas"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((3, 28, 28, 1), np.uint8), "labels": np.zeros(3, int)}, "holds 3 images: at least 100"),
        ({"images": np.zeros((200, 9, 9, 1), np.uint8), "labels": np.zeros(200, int)}, "takes images of 1x28x28"),
        ({"images": np.zeros((200, 28, 28, 3), np.uint8), "labels": np.zeros(200, int)}, "colour"),
        ({"images": np.full((200, 28, 28, 1), np.nan), "labels": np.zeros(200, int)}, "NaN"),
        ({"images": np.zeros((200, 28, 28, 1), np.float32), "labels": np.zeros(200, int)}, "must be uint8 (N, H, W, C)"),
        ({"images": np.zeros((200, 28, 28, 1), np.uint8), "labels": np.full(200, 10)}, "labels must lie in 0..9"),
        ({"images": np.zeros((200, 28, 28, 1), np.uint8), "labels": np.zeros(7, int)}, "labels must be (200,)"),
        ({"pictures": np.zeros(3)}, "it must be an .npz with images"),
    ],
)
def test_images_that_cannot_be_measured_are_refused(
    run_condgen: Run, tmp_path: Path, arrays: dict[str, NDArray[np.generic]], words: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert words in run_condgen("evaluate", "x.npz", "data=mnist", "--out", "out").sentence()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["split=train"], "split must be val or test, not 'train'"),
        (["suite=[fit]"], "fit"),
        (["samples=3"], "at least 100"),
        (["seed=x"], "seed must be a whole number"),
        (["weights=best"], "must be ema or raw"),
        (
            ["extractor=mnist"],
            "extractor=mnist does not exist: choose one of cifar10-resnet, cifar10-rotation, custom, fashion-cnn, "
            "inception, mnist-attributes",
        ),
        (["colour=red"], "Unknown key 'colour'"),
        (["extractor=cifar10-resnet", "extractor.resize=bilinear"], "tells 10 classes apart (airplane, automobile, bird, ...)"),
        (["data=fashion_mnist", "data.source.root=."], "."),
        (["--device", "cuda:9"], "--device cuda:9 is not available"),
    ],
)
def test_measurements_that_cannot_be_made_are_refused(
    run_condgen: Run, gan_run: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in run_condgen("evaluate", gan_run, "--out", "out", *arguments).sentence()
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_other_classes_is_refused(run_condgen: Run, gan_run: Path) -> None:
    sentence = run_condgen("evaluate", gan_run, "data.classes=[3,7]").sentence()
    assert "generates the classes 0, 1, 2" in sentence and "the data have 3, 7" in sentence


def test_a_model_that_generates_nan_is_refused(run_condgen: Run, gan_run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(gan_run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"] = {
        key: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for key, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    arguments = ("evaluate", "nan.ckpt", "data=mnist", "--out", "out")
    assert "NaN" in run_condgen(*arguments).sentence() and not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_size_is_refused_unless_a_resize_is_named(run_condgen: Run, tmp_path: Path) -> None:
    arguments = ("experiment=none", "model=cgan_embedding", "data.image_size=32", "trainer=cpu", "trainer.max_steps=1")
    assert run_condgen("train", *arguments, "callbacks.evaluation=null", "hydra.run.dir=run").code == 0
    sentence = run_condgen("evaluate", "run", "--out", "out").sentence()
    assert "takes images of 1x28x28 and the samples of" in sentence and "are 1x32x32: extractor.resize=bilinear" in sentence
    assert not (tmp_path / "out").exists()
    command = ("evaluate", "run", "extractor.resize=bilinear", "samples=200", *FEW, "--out", "out")
    record = measured(run_condgen(*command), tmp_path / "out")
    assert record.protocol.resize == "1x32x32 to 1x28x28, bilinear, antialiased"
    # The real images are those of 28x28, not resized twice: the same as for any other model.
    assert record.floors["fid"] < 20


def test_what_cannot_be_found_or_compared_is_named(run_condgen: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "data= has to be chosen" in run_condgen("evaluate", "empty").sentence()
    assert "no images in class sub-folders" in run_condgen("evaluate", "empty", "data=mnist").sentence()
    assert "There is no checkpoint" in run_condgen("evaluate", "absent.ckpt", "data=mnist").sentence()
