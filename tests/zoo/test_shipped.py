"""The generators that ship: they load, are what their cards say, and fit into an installation."""

import hashlib
import json
import re
import subprocess
import sys

import pytest
import torch

import condgen
from condgen.errors import CondgenError
from condgen.run.exported import ZOO, read_config, shipped, shipped_folder

NAMES = shipped()
MOST_BYTES = 12 * 2**20


def test_there_are_some_and_they_are_small():
    assert "mnist-best" in NAMES
    assert sum(path.stat().st_size for path in ZOO.rglob("model.safetensors")) < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_each_draws_what_it_is_asked_for(name):
    model = condgen.load(f"zoo:{name}")
    if model.condition.image is None:
        condition = model.condition.encode(model.card["example"])
    else:
        condition = model.condition.ask(None, torch.zeros(model.space.shape))
    samples = model.sample(condition, count=2)
    assert samples.shape == (2, *model.space.shape) and samples.abs().max() <= 1 and samples.std() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_each_card_is_complete(name):
    config = read_config(ZOO / name)
    card = config["card"]
    assert config["weights"]["sha256"] == hashlib.sha256((ZOO / name / "model.safetensors").read_bytes()).hexdigest()
    assert card["name"] == name and config["weights"]["dtype"] == "float16"
    assert card["command"].startswith("condgen train ") and card["compute"]["minutes"] > 0 and card["licence"]
    assert any("floor" in row for row in card["figures"]) or any("Nobody has measured it" in limit for limit in card["limits"])
    assert all(row["samples"] >= 2000 and row["protocol"] for row in card["figures"])
    assert "differ between 32 and 16 bits" in card["half"]
    assert re.findall(r'"(/[^"]*)"', json.dumps(config)) == []  # no path of the machine that made it


def test_the_list_and_the_card(run_condgen):
    listed = run_condgen("zoo")
    assert listed.code == 0
    for name in NAMES:
        config = read_config(ZOO / name)
        for part in (f"zoo:{name}", config["weights"]["sha256"], config["card"]["command"], config["card"]["licence"]):
            assert part in listed.out
    shown = run_condgen("zoo", "mnist-best").out
    assert shown.startswith("# mnist-best") and "## Limits" in shown and "license:" not in shown


def test_an_unknown_name_is_answered_with_near_ones(run_condgen):
    said = run_condgen("sample", "zoo:mnist-bst", "--out", "a.png").sentence()
    assert "did you mean mnist-best" in said
    with pytest.raises(CondgenError, match="No generator ships"):
        shipped_folder("zoo:../zoo/mnist-best/..")


def test_listing_waits_for_nothing_heavy():
    code = "import sys\nfrom condgen.zoo import listing\nlisting()\nassert not {'torch', 'numpy', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
