"""What every family can be told, and how learning rates fall."""

import pytest
import torch
from recipes import batches, fit, make_model
from torch import nn

from condgen.errors import CondgenError
from condgen.spaces import Images, Points
from condgen.training.options import Options
from condgen.training.schedules import Cosine, Linear

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_recipe_takes_the_images_that_it_was_published_for():
    published = Options(expects=[1, 32, 32])
    published.check(Images((1, 32, 32)))
    Options().check(Images((3, 8, 8)))
    with pytest.raises(CondgenError, match=r"data\.image_size=32 data\.channels=1, or model\.options\.expects=null"):
        published.check(Images((1, 28, 28)))
    with pytest.raises(CondgenError, match="1x32x32 images and the data give points: set model=gan_points"):
        published.check(Points())


@pytest.mark.parametrize("given, mode", [(True, None), ("networks", None), ("reduce-overhead", "reduce-overhead")])
def test_networks_are_compiled_in_place_under_their_names(given, mode, monkeypatch):
    modes, networks = [], [nn.Linear(2, 2), nn.Linear(2, 2)]
    names = list(networks[0].state_dict())
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode: modes.append((self, mode)))
    Options(compile=given).compiled(*networks)
    assert modes == [(network, mode) for network in networks] and list(networks[0].state_dict()) == names
    for none in (False, "step"):
        Options(compile=none).compiled(*networks)
    assert len(modes) == 2


def test_the_memory_format_of_images_and_of_convolutions():
    model = make_model("model=cgan_conv", "model.options.channels_last=true", "model.options.ema=0.9")
    images, condition = torch.zeros(2, 3, 4, 4), torch.zeros(2)
    assert model.on_after_batch_transfer((images, condition), 0)[0].is_contiguous(memory_format=torch.channels_last)
    assert make_model("model=cgan_conv").on_after_batch_transfer((images, condition), 0)[0].is_contiguous()
    for network in (model.generator, model.discriminator, model.ema.average):
        wide = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and min(m.weight.shape[1:]) > 1]
        assert wide and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)


# --- how rates fall ---


def test_schedules():
    linear, cosine = Linear(start=0.5, end=0.2), Cosine()
    assert [linear(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.6, 0.2])
    assert [cosine(t) for t in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])


def test_decay_without_an_end_is_refused():
    decay = "model.options.decay={_target_: condgen.training.schedules.Linear}"
    with pytest.raises(CondgenError, match=r"model\.options\.decay .* trainer\.max_epochs or trainer\.max_steps"):
        fit(make_model("model=cgan_mlp", decay), batches(1), max_epochs=-1)
