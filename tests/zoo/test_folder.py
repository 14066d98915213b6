"""An exported folder: the same samples as its run, a card that tells the truth, damage and foreign code refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from recipes import make_model

import condgen
from condgen.errors import CondgenError
from condgen.exporting.card import card_of, shared
from condgen.exporting.folder import write_folder
from condgen.metrics.record import Record, write_record
from condgen.run.finetune import start_from


def refused(folder: Path) -> str:
    """Return the one sentence with which loading is refused."""
    with pytest.raises(CondgenError) as caught:
        condgen.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(exported, tmp_path):
    """An exported folder to be tampered with."""
    return Path(shutil.copytree(exported, tmp_path / "folder"))


def test_it_draws_the_samples_of_its_run(exported, gan_run, run_condgen, tmp_path):
    for model, out in ((exported, "a.npz"), (gan_run, "b.npz")):
        assert (
            run_condgen("sample", model, "--condition", "3,7", "--count", 2, "--seed", 5, "--out", out, "--no-metadata").code
            == 0
        )
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_it_says_what_is_known_and_nothing_of_the_machine(exported, gan_run):
    config = json.loads((exported / "config.json").read_text())
    card, readme = config["card"], (exported / "README.md").read_text()
    assert condgen.load(exported).card == card
    assert (card["name"], card["family"], card["data"], card["licence"]) == ("digits", "GAN", "MNIST", "cc-by-sa-3.0")
    assert card["command"].startswith("condgen train experiment=none model=cgan_mlp data.batch_size=4")
    assert card["compute"]["updates"] == 2 and card["limits"] == ["It is a test."] and "- It is a test." in readme
    front = yaml.safe_load(readme.split("---\n")[1])
    assert (front["license"], front["library_name"], front["datasets"]) == ("cc-by-sa-3.0", "condgen", ["ylecun/mnist"])
    titles = ("How to use", "Conditions", "Sampling options", "Data", "Licence", "Figures", "Limits", "Training", "Files")
    assert [line[3:] for line in readme.splitlines() if line.startswith("## ")] == list(titles)
    everything = readme + json.dumps(config)
    assert str(gan_run.parents[2]) not in everything and "output_dir" not in everything


def test_a_command_without_paths_names_files_only():
    given = ["data=cifar10", "data.source.archive=/home/me/train.zip", "hydra.run.dir=/tmp/x", "run.name=mine", "seed=3"]
    assert shared(given) == ["data=cifar10", "data.source.archive=train.zip", "seed=3"]


def test_sixteen_bits_take_half_and_are_computed_with_in_32(exported, gan_run, run_condgen, tmp_path):
    assert run_condgen("export", gan_run, "--out", "half", "--half").code == 0
    sizes = [(place / "model.safetensors").stat().st_size for place in (tmp_path / "half", exported)]
    assert sizes[0] < 0.55 * sizes[1]
    narrow, wide = condgen.load(tmp_path / "half"), condgen.load(exported)
    assert {p.dtype for p in narrow.parameters()} == {torch.float32}
    gap = (narrow.sample("0-9", count=2) - wide.sample("0-9", count=2)).abs().max()
    assert 0 < gap < 0.02


def test_figures_are_those_of_these_weights_and_options(gan_run, run_condgen, tmp_path):
    from condgen.metrics.protocol import Protocol

    run = Path(shutil.copytree(gan_run, tmp_path / "run"))
    protocol = Protocol("mnist-cnn", "0", "test", "0", 10_000, 10_000, "none", 0, "raw")
    for i, (step, figures) in enumerate([(2, {"fid": 7.5, "label_accuracy": 0.9}), (1, {"fid": 99.0})]):
        record = Record(protocol, figures, {"fid": 0.5}, source="last", step=step)
        write_record(run / "evaluation" / f"e{i}" / "metrics.json", record)
    assert run_condgen("export", run, "--out", "plain").code == 0
    rows = json.loads((tmp_path / "plain" / "config.json").read_text())["card"]["figures"]
    assert [(row["name"], row["value"], row.get("floor"), row["protocol"]) for row in rows] == [
        ("FID", 7.5, 0.5, "mnist-cnn/test-10k"),
        ("label accuracy", 0.9, None, "mnist-cnn/test-10k"),
    ]
    readme = (tmp_path / "plain" / "README.md").read_text()
    assert "10.0% are read as another class" in readme and "|    7.50 |        0.50 |" in readme
    assert run_condgen("export", run, "--out", "narrow", "--sampling", "truncation=0.5").code == 0
    config = json.loads((tmp_path / "narrow" / "config.json").read_text())
    assert config["card"]["figures"] == [] and condgen.load(tmp_path / "narrow").sampling == {"truncation": 0.5}


def test_a_training_starts_from_an_average_and_its_weights_are_called_so(tmp_path):
    first, second = (make_model("model=cgan_mlp", seed=seed) for seed in (1, 2))
    about = {"kind": "ema", "step": 1, "half": False, "evaluation": {}, "card": card_of(first.generator, {}, None, 1, [])}
    write_folder(tmp_path / "a", first.generator, first.recipe, **about)
    start_from(second, tmp_path / "a")
    wanted = first.generator.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in second.generator.state_dict().items())
    with pytest.raises(CondgenError, match="no raw weights"):
        condgen.load(tmp_path / "a", weights="raw")


@pytest.mark.parametrize(
    "what", ["a flipped bit", "cut short", "no weights", "no JSON", "no generator", "newer", "odd sampling"]
)
def test_damage_is_found(what, folder):
    weights, config = folder / "model.safetensors", folder / "config.json"
    content = json.loads(config.read_text())
    if what == "a flipped bit":
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    elif what == "cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "no weights":
        weights.unlink()
    elif what == "no JSON":
        config.write_text(config.read_text()[:-20])
    elif what == "no generator":
        config.write_text(json.dumps(content | {"generator": None}))
    elif what == "newer":
        config.write_text(json.dumps(content | {"format": 99, "condgen": "9.0"}))
    else:
        config.write_text(json.dumps(content | {"sampling": {"self": 1}}))
    said = refused(folder)
    assert "newer condgen (9.0)" in said if what == "newer" else "damaged" in said or "holds no checkpoint" in said


@pytest.mark.parametrize("part", ["generator", "space", "condition"])
def test_no_code_is_run(part, folder, tmp_path):
    path, marker = folder / "config.json", tmp_path / "marker"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {part: {"_target_": "os.system", "command": f"touch {marker}"}}))
    assert "os.system" in refused(folder) and not marker.exists()


def test_what_cannot_be_exported_is_said(gan_run, exported, run_condgen, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    cases = {
        ("--out", "full"): "nothing was overwritten",
        ("--out", "x.onnx"): "must be a folder",
        ("--out", "x", "--format", "onnx"): "ends in .onnx",
        ("--out", "x", "--format", "gguf"): "folder, onnx, pt2",
        ("--out", "x.pt2", "--format", "pt2", "--half"): "leave it out",
        ("--out", "x", "--sampling", "steps=4"): "cannot be sampled with steps",
        ("--out", "x", "--sampling", "truncation=wide"): "no float",
        ("--out", "x", "--sampling", "speed=4"): "one of truncation",
    }
    for words, part in cases.items():
        assert part in run_condgen("export", gan_run, *words).sentence()
    assert "No generator ships as zoo:mist" in run_condgen("export", "zoo:mist", "--out", "x").sentence()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
