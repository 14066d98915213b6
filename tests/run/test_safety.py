"""Loading runs no code: neither from a checkpoint's pickle nor by way of a stored configuration."""

import os
import pickle
import shutil
import zipfile
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml

import condgen
from condgen.errors import CondgenError

TARGETS = {
    "a command": {"_target_": "os.system", "command": "touch MARKER"},
    "a command, called by position": {"_target_": "os.system", "_args_": ["touch MARKER"]},
    "a module that condgen imports": {"_target_": "condgen.train.os.system", "command": "touch MARKER"},
    "a module that torch imports": {"_target_": "torch.nn.modules.module.os.system", "command": "touch MARKER"},
    "a module that an optimizer imports": {"_target_": "torch.optim.optimizer.os.system", "command": "touch MARKER"},
    "torch.load behind torch.nn": {"_target_": "torch.nn.functional.torch.load", "f": "x", "weights_only": False},
    "torch.load": {"_target_": "torch.load", "f": "x", "weights_only": False},
    "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "x", "source": "local"},
    "a function of condgen's": {"_target_": "condgen.run.checkpoint.load", "path": "x", "trust": True},
    "a function that instantiates": {"_target_": "condgen.config.build", "key": "x", "node": {}},
    "Hydra's own instantiate": {"_target_": "hydra.utils.instantiate", "config": {}},
    "eval": {"_target_": "builtins.eval", "_args_": ["__import__('os').system('touch MARKER')"]},
    "a class of another package": {"_target_": "subprocess.Popen", "args": ["touch", "MARKER"]},
    "a class that condgen imports": {"_target_": "condgen.run.checkpoint.Path", "_args_": ["x"]},
    "no text": {"_target_": 3},
    "a home": "${oc.env:HOME}",
    "a resolver": "${hydra:runtime.cwd}",
}


def hostile(name: str, marker: Path) -> object:
    """Return one of ``TARGETS``, aimed at the file ``marker``."""
    return yaml.safe_load(yaml.safe_dump(deepcopy(TARGETS[name])).replace("MARKER", str(marker)))


def refused(call) -> str:
    """Return the one sentence with which ``call`` is refused."""
    with pytest.raises(CondgenError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def marker(tmp_path):
    """A file that must not appear."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "foreign code ran"


@pytest.fixture
def run(gan_run, tmp_path):
    """A run directory to be tampered with."""
    return Path(shutil.copytree(gan_run, tmp_path / "run"))


def all_commands_refuse(run_condgen, run, tmp_path) -> list[str]:
    """`load`, ``sample`` and ``resume`` of the tampered last.ckpt: three sentences, nothing written."""
    path = run / "checkpoints" / "last.ckpt"
    sentences = [refused(lambda: condgen.load(path))]
    sentences.append(run_condgen("sample", path, "--condition", "3", "--out", "a.png").sentence())
    sentences.append(run_condgen("resume", run, "trainer.max_epochs=5").sentence())
    assert not (tmp_path / "a.png").exists()
    return sentences


class Payload:
    """Unpickling it would run a command."""

    def __init__(self, marker: Path):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


def test_the_payload_works_where_nobody_guards(tmp_path):
    """Else the tests below would prove nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "fired")))
    assert (tmp_path / "fired").exists()


def test_a_pickled_command(run, marker, run_condgen, tmp_path):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"payload": Payload(marker)}, run / "checkpoints" / "last.ckpt")
    assert all("last.ckpt" in sentence for sentence in all_commands_refuse(run_condgen, run, tmp_path))
    with pytest.raises(CondgenError):  # trust is about configurations, not about pickles
        condgen.load(run / "checkpoints" / "last.ckpt", trust=True)


def test_a_bare_pickle(run, marker, run_condgen, tmp_path):
    (run / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Payload(marker)))
    all_commands_refuse(run_condgen, run, tmp_path)


def test_a_pickle_inside_an_intact_archive(run, marker, run_condgen, tmp_path):
    path = run / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (data,) = (name for name in entries if name.endswith("data.pkl"))
    entries[data] = pickle.dumps(Payload(marker), protocol=2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    all_commands_refuse(run_condgen, run, tmp_path)


@pytest.mark.parametrize("key", ["generator", "activation"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_hostile_configuration_in_a_checkpoint(name, key, run, marker, run_condgen):
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    recipe = checkpoint["condgen"]
    node = hostile(name, marker)
    if key == "generator":
        recipe["model"]["generator"] = node
    else:  # deep inside, in a list
        network = recipe["model"]["generator"]["network"]
        network["activation"] = [network["activation"], {"deeper": [node]}]
    torch.save(checkpoint, path)
    assert "--trust" in refused(lambda: condgen.load(path))
    assert "--trust" in run_condgen("sample", path, "--condition", "3", "--out", "a.png").sentence()


@pytest.mark.parametrize("name", TARGETS)
def test_a_hostile_configuration_of_a_run(name, run, marker, run_condgen):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["callbacks"]["extra"] = hostile(name, marker)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "--trust" in run_condgen("resume", run, "trainer.max_epochs=5").sentence()


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch MARKER']", "!!python/name:os.system", "!!python/module:os"]
)
def test_a_yaml_that_names_python_objects(tag, run, marker, run_condgen):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text + f"extra: {tag.replace('MARKER', str(marker))}\n")
    assert "config.yaml" in run_condgen("resume", run, "trainer.max_epochs=5").sentence()


def test_an_override_cannot_bring_in_a_target(run, marker, run_condgen):
    """What the user types is the user's; but an interpolation that a file hides is not resolved behind the check."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["run"]["name"] = "${oc.env:HOME}"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "interpolation" in run_condgen("resume", run, "trainer.max_epochs=5").sentence()


def test_trust_accepts_a_foreign_but_harmless_target(run, run_condgen):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["logger"]["foreign"] = {
        "_target_": "lightning.pytorch.loggers.CSVLogger",
        "save_dir": str(run / "foreign"),
        "name": "",
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "lightning.pytorch.loggers.CSVLogger" in run_condgen("resume", run, "trainer.max_epochs=2").sentence()
    assert not (run / "foreign").exists()
    foreign = f"{{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: {run / 'foreign'}, name: ''}}"
    assert "logger.foreign" in run_condgen("resume", run, "trainer.max_epochs=2", "--trust").sentence()  # nobody told
    result = run_condgen("resume", run, "trainer.max_epochs=2", "--trust", f"logger.foreign={foreign}")
    assert result.code == 0, result
    assert list((run / "foreign").rglob("metrics.csv"))


def test_trust_accepts_a_foreign_layer_in_a_checkpoint(run, run_condgen, tmp_path):
    """torchvision is not torch: its layers need trust as anybody's do."""
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    foreign = {"_target_": "torchvision.ops.StochasticDepth", "_partial_": True, "p": 0.5, "mode": "row"}
    checkpoint["condgen"]["model"]["generator"]["network"]["activation"] = foreign
    torch.save(checkpoint, path)
    arguments = ("sample", path, "--condition", "3", "--out", "a.png")
    assert "torchvision.ops.StochasticDepth" in run_condgen(*arguments).sentence() and not (tmp_path / "a.png").exists()
    assert run_condgen(*arguments, "--trust").code == 0 and (tmp_path / "a.png").exists()
    assert condgen.load(path, trust=True).sample(3).shape == (1, 1, 28, 28)
