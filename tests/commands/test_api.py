"""condgen in Python: the same runs as the command's, the same sentences, and nothing left behind in the process."""

import contextlib
import json
import logging
import random
import signal
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch
from command import FEWER, TINY
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from recipes import make_model

import condgen
from condgen.conditions import Inpaint
from condgen.resume import relocated
from condgen.run.messages import silence
from condgen.spaces import Images, Points, to_uint8

SMALL = ("model=cgan_mlp", *TINY)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two updates with a picture of its samples; not to be changed."""
    folder = tmp_path_factory.mktemp("api") / "it's a run"
    return condgen.train(*SMALL, "trainer.max_epochs=1", directory=folder)


def weights(run):
    """Return the weights that a run ended with."""
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def same(first, second):
    """Whether two state dicts are equal, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def refused(call) -> str:
    """Return the one sentence with which ``call`` is refused."""
    with pytest.raises(condgen.CondgenError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- training ---


def test_a_run_is_the_same_as_the_commands(trained, run_condgen, tmp_path):
    assert run_condgen("train", *SMALL, "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    assert same(weights(trained.directory), weights(tmp_path / "run"))
    (ours,), (theirs,) = (
        json.loads((place / "provenance.json").read_text())["sessions"] for place in (trained.directory, tmp_path / "run")
    )
    assert ours["overrides"] == theirs["overrides"] == [*SMALL, "trainer.max_epochs=1"]
    assert relocated(ours["config"], str(trained.directory), str(tmp_path / "run")) == theirs["config"]


def test_a_run_knows_its_status_metrics_and_pictures(trained):
    assert trained.status.state == "done" and trained.status.step == 2
    assert trained.metrics["step"] == 2 and "train/loss_g" in trained.metrics
    assert trained.samples.size == Image.open(max((trained.directory / "samples").glob("*.png"))).size
    assert "done, update 2 of 2" in repr(trained)
    page = trained._repr_html_()
    assert "done, update 2 of 2" in page and "train/loss_g" in page and "data:image/png;base64," in page


def test_its_model_is_the_generator(trained):
    assert trained.model is trained.model
    samples = trained.model.sample("3", count=2)
    assert samples.shape == (2, 1, 28, 28)
    assert torch.equal(samples, condgen.load(trained.directory).sample("3", count=2))
    assert torch.equal(samples, condgen.Run(trained.directory).model.sample("3", count=2))


def test_a_recipe_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("trainer.max_epochs=1", "callbacks.evaluation=null", "model.generator.network.width=4", "data.classes=[0,1]")
    run = condgen.train("mnist_quick", *TINY, *small)
    assert run.directory.is_relative_to(tmp_path / "outputs" / "mnist_quick")
    assert run.model.condition.classes == ["0", "1"]


def surroundings():
    """What a run might change in the process that it is a guest of."""
    loggers = [logging.getLogger(name) for name in ("", "condgen", "lightning.pytorch", "lightning.fabric")]
    return {
        "logging": [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)],
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "torch": (torch.get_rng_state().tolist(), torch.get_num_threads(), torch.is_grad_enabled()),
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "arguments": list(sys.argv),
    }


@pytest.mark.parametrize("fails", [False, True], ids=["to its end", "failing in the middle"])
def test_nothing_is_left_behind(fails, tmp_path, monkeypatch):
    training = import_module("condgen.training.gan").GAN
    silence()  # a command before this test is no guest
    heard = logging.NullHandler()
    logging.getLogger("condgen").addHandler(heard)

    def broken(self, *batch):
        assert signal.getsignal(signal.SIGINT) is not before["signals"][0]  # else the test would prove nothing
        raise condgen.CondgenError("The loss is no number.")

    before = surroundings()
    if fails:
        monkeypatch.setattr(training, "training_step", broken)
    how = pytest.raises(condgen.CondgenError, match="no number") if fails else contextlib.nullcontext()
    with how:
        condgen.train(
            *SMALL, "trainer.max_epochs=1", "run.threads=2", "extras.ignore_warnings=true", directory=tmp_path / "run"
        )
    after = surroundings()
    logging.getLogger("condgen").removeHandler(heard)
    assert {name for name in before if before[name] != after[name]} == set()


def test_what_came_before_in_the_process_does_not_matter(trained, tmp_path):
    torch.manual_seed(77)
    again = condgen.train(*SMALL, "trainer.max_epochs=1", directory=tmp_path / "again")
    assert same(weights(trained.directory), weights(again.directory))


# --- going on ---


def test_a_run_goes_on(trained, tmp_path, capfd):
    run = condgen.train(*SMALL, "trainer.max_epochs=1", directory=tmp_path / "run")
    first = run.model.sample("3")
    longer = run.resume("trainer.max_epochs=2")
    assert longer.directory == run.directory and longer.status.step == run.metrics["step"] == 4
    assert not torch.equal(run.model.sample("3"), first)  # the model is that of today
    straight = condgen.train(*SMALL, "trainer.max_epochs=2", directory=tmp_path / "straight")
    assert same(weights(run.directory), weights(straight.directory))
    capfd.readouterr()
    assert condgen.resume(str(run.directory)).status.step == 4
    assert "is finished" in capfd.readouterr().err


# --- measuring ---


def test_figures_are_the_commands(trained, run_condgen, tmp_path):
    how = ("split=val", "samples=100", "suite=[label_accuracy]", FEWER)
    record = condgen.evaluate(trained, *how, out=tmp_path / "ours")
    assert 0 <= record.figures["label_accuracy"] <= 1 and record.protocol.generated == 100
    assert run_condgen("evaluate", trained.directory, *how, "--out", "theirs").code == 0
    assert (tmp_path / "ours" / "metrics.json").read_bytes() == (tmp_path / "theirs" / "metrics.json").read_bytes()


# --- looking ---


def test_samples_are_shown_as_the_command_draws_them(trained, run_condgen, tmp_path):
    picture = trained.model.show("0-2", count=4, seed=5)
    arguments = ("--condition", "0-2", "--count", 4, "--seed", 5, "--out", "grid.png")
    assert run_condgen("sample", trained.directory, *arguments).code == 0
    assert picture.size == (4 * 30 + 2, 3 * 30 + 2)
    assert picture.tobytes() == Image.open(tmp_path / "grid.png").tobytes()
    assert trained.model.show("3").size == (8 * 30 + 2, 8 * 30 + 2)  # as many as look well
    assert trained.model.show().size == (8 * 30 + 2, 10 * 30 + 2)
    assert trained.model.show(3, count=4, seed=5).tobytes() == trained.model.show("3", count=4, seed=5).tobytes()


def test_points_are_shown_as_a_scatter():
    model = make_model("model=gan_points", space=Points()).generator
    assert model.show("0-2", count=5).size == (Points.side, Points.side)


def test_what_a_sample_starts_from_is_shown_first(tmp_path):
    model = make_model("model=pix2pix", condition=Inpaint((1, 28, 28))).generator
    start = torch.arange(28.0).expand(1, 28, 28) / 28
    Image.fromarray(to_uint8(start)[0].numpy()).save(tmp_path / "start.png")
    picture = model.show(image=tmp_path / "start.png", count=3)
    assert picture.size == (2 * 30 + 2, 2 * 30 + 2)
    first = torch.tensor(list(picture.convert("L").tobytes())).view(picture.size)[2:30, 2:30]
    assert torch.equal(first[0], to_uint8(start)[0, 0]) and (first[14, 14] - 128).abs() <= 1  # the hole is grey
    assert "--image" in refused(lambda: model.show(count=3))


# --- mistakes ---


@pytest.mark.parametrize(
    "overrides",
    [
        ("mnist_quik",),
        ("model=cgan_mpl",),
        ("trainer.max_epoch=1",),
        ("data.batch_size=0", "trainer=cpu"),
        ("hparams_search=cvae",),
        ("data.classes=[0,1",),
    ],
    ids=" ".join,
)
def test_a_mistake_ends_in_the_commands_sentence(overrides, run_condgen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = refused(lambda: condgen.train(*overrides))
    first = f"experiment={overrides[0]}" if "=" not in overrides[0] else overrides[0]
    assert run_condgen("train", first, *overrides[1:]).sentence() == ours
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_here_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--multirun" in refused(lambda: condgen.train("--multirun", "seed=0,1"))
    assert "run.files" in refused(lambda: condgen.train(*SMALL, "run.files=false"))
    assert "holds a run already" in refused(lambda: condgen.train(*SMALL, directory=trained.directory))
    assert "config.yaml" in refused(lambda: condgen.Run("nowhere"))
    assert "config.yaml" in refused(lambda: condgen.resume("nowhere"))
    assert "nowhere" in refused(lambda: condgen.evaluate("nowhere"))
    assert "trainer.max_epoch" in refused(lambda: trained.resume("trainer.max_epoch=2"))
    assert list(tmp_path.iterdir()) == []


# --- names ---


def test_names_stay_functions_whatever_was_imported(trained):
    for name in ("train", "resume", "evaluate"):
        assert getattr(condgen, name) is getattr(import_module("condgen.api"), name)
        assert getattr(import_module(f"condgen.{name}"), name) is not getattr(condgen, name)  # the command's
        assert getattr(condgen, name) is getattr(import_module("condgen.api"), name)
    with pytest.raises(AttributeError, match="'nothing'"):
        condgen.nothing  # noqa: B018
    assert isinstance(trained.model.space, Images)
