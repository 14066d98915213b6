"""Transforms of torchvision and albumentations in ``data.augment``: keyed by seed, epoch and place, and nothing else."""

import random

import albumentations
import numpy as np
import pytest
import torch
from command import TINY, condgen, only_run
from torchvision.transforms import v2

from condgen.augment.images import Flip, compose
from condgen.augment.libraries import PerImage
from condgen.data.loader import BatchLoader
from condgen.errors import CondgenError
from condgen.spaces import to_float

IMAGES = torch.randint(0, 256, (12, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
TRANSFORMS = {
    "affine": lambda: v2.RandomAffine(30, (0.2, 0.2)),
    "trivial": v2.TrivialAugmentWide,
    "compose": lambda: v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.5), v2.ToDtype(torch.float32, scale=True)]),
    "numpy": lambda: lambda image: (image * np.random.uniform(0.5, 1) * random.uniform(0.5, 1)).byte(),
    "albumentations": lambda: albumentations.Affine(rotate=(-30, 30), p=0.7),
    "albumentations-compose": lambda: albumentations.Compose([albumentations.GaussNoise(p=0.5), albumentations.ToGray(p=0.5)]),
    "list": lambda: [Flip(), v2.RandomRotation(20)],
}


def batches(augment, epoch, first=0, **options):
    loader = BatchLoader(
        IMAGES, torch.zeros(12, 0), 4, shuffle=True, seed=3, augment=augment, position=lambda: (epoch, first), **options
    )
    return [x for x, _ in loader]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_epoch_repeats_and_resumes_to_the_bit_and_two_processes_make_the_same(name):
    whole = batches(compose(TRANSFORMS[name]()), epoch=1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    plain, other = batches(None, epoch=1), batches(compose(TRANSFORMS[name]()), epoch=2)
    assert not torch.equal(torch.cat(whole), torch.cat(plain)) and not torch.equal(torch.cat(whole), torch.cat(other))
    assert all(x.shape == (4, 3, 16, 16) and x.dtype == torch.float32 and x.abs().max() <= 1 for x in whole)
    torch.manual_seed(9)  # whatever the global states are
    before = torch.get_rng_state()
    assert torch.equal(torch.cat(batches(compose(TRANSFORMS[name]()), epoch=1, first=1)), torch.cat(whole[1:]))
    assert torch.equal(torch.get_rng_state(), before)
    apart = batches(compose(TRANSFORMS[name]()), epoch=1, first=1, workers=2)
    assert torch.equal(torch.cat(apart), torch.cat(whole[1:])) and torch.equal(torch.get_rng_state(), before)
    halves = [batches(compose(TRANSFORMS[name]()), epoch=1, rank=rank, world=2) for rank in (0, 1)]
    assert torch.equal(torch.cat([torch.cat(pair) for pair in zip(*halves, strict=True)]), torch.cat(whole))
    assert random.getstate() == states[1] and (np.random.get_state()[1] == states[2]).all()


def test_the_transform_sees_what_torchvision_would():
    u = torch.rand(12, 2, generator=torch.Generator().manual_seed(1))
    made = PerImage(v2.GaussianBlur(3, (1.0, 1.0)))(to_float(IMAGES), u)
    assert torch.equal(made, to_float(v2.GaussianBlur(3, (1.0, 1.0))(IMAGES)))
    grey = PerImage(albumentations.HorizontalFlip(p=1))(to_float(IMAGES[:, :1]), u)
    assert torch.equal(grey, to_float(IMAGES[:, :1].flip(-1)))


@pytest.mark.parametrize(
    "transform, words",
    [
        (lambda: v2.MixUp(num_classes=3), "MixUp mixes images of different classes"),
        (lambda: v2.Resize(8), "Resize makes 3x8x8 of an image of 3x16x16"),
        (v2.ToPILImage, "ToPILImage makes Image of an image"),
    ],
)
def test_what_does_not_fit_is_told(transform, words):
    for workers in (0, 1):
        with pytest.raises(CondgenError, match=words):
            batches(compose(transform()), 0, workers=workers)


def test_a_run_names_them_in_its_configuration_and_goes_on(tmp_path):
    turn, invert = "{_target_: albumentations.Affine, rotate: [-20, 20]}", "{_target_: torchvision.transforms.v2.RandomInvert}"
    chosen = f"data.augment=[{turn}, {invert}]"
    result = condgen("train", "experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1", chosen, cwd=tmp_path)
    assert result.code == 0, result
    more = condgen("resume", only_run(tmp_path), "trainer.max_epochs=2", cwd=tmp_path)
    assert more.code == 0, more


def test_every_choice_of_augment_trains(tmp_path):
    for name in ("flip", "flip_crop", "rotate_crop", "affine", "trivial"):
        result = condgen(
            "train", "experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1", f"augment={name}", cwd=tmp_path
        )
        assert result.code == 0, result


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["augment=flop"], "augment=flop does not exist"),
        (["data.augment={_target_: torchvision.transforms.v2.RandomAfine}"], "data.augment._target_ must be the path"),
        (["data.augment={_target_: torchvision.transforms.v2.RandomAffine, degree: 3}"], "data.augment.degree does not exist"),
        (["data.augment={_target_: torchvision.transforms.v2.Resize, size: 8}"], "Resize makes 1x8x8 of an image of 1x28x28"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run_condgen, arguments, words):
    assert words in run_condgen("train", "experiment=none", "model=cgan_mlp", *TINY, *arguments).err
