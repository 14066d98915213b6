"""What commands import: whoever only samples waits for neither Lightning nor any metric, and help does not wait for torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recipes import make_model

from condgen.conditions import Inpaint, Photo, Styles, Together
from condgen.files import save_png
from condgen.run.checkpoint import read
from condgen.spaces import Points

TRAINING = {
    "lightning",
    "lightning_utilities",
    "torchmetrics",
    "torchvision",
    "torch_fidelity",
    "tensorboard",
    "matplotlib",
    "optuna",
    "scipy",
}
"""Packages that only training and measuring need."""
HEAVY = {"torch", "numpy", "hydra", "omegaconf", "yaml", "PIL"} | TRAINING
"""What nobody should wait for who only asks for help."""
ROOMS = {f"condgen.{room}" for room in ("training", "callbacks", "data", "augment", "metrics", "sweeps")}
"""Where no generator comes from."""
ASK = """
import json, sys
from condgen.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + json.dumps(sorted(sys.modules)))
"""


def python(code: str, *arguments: object, cwd: Path) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def imported(code: str, *arguments: object, cwd: Path) -> set[str]:
    """Return the modules that a fresh interpreter has after running code, which prints them last."""
    return set(json.loads(python(code, *arguments, cwd=cwd).splitlines()[-1]))


def needless(modules: set[str]) -> list[str]:
    """Return which of the modules belong to training."""
    return sorted(name for name in modules if name.partition(".")[0] in TRAINING or ".".join(name.split(".")[:2]) in ROOMS)


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory):
    """An untrained checkpoint of each family, as a run would leave it."""
    folder = tmp_path_factory.mktemp("families")
    styles = Together(Styles(["stripes", "checks", "dots", "waves", "mosaic"]), Photo((3, 32, 32)))
    models = {
        "gan": make_model("model=cgan_mlp"),
        "resnet": make_model("model=biggan", shape=(3, 32, 32)),
        "points": make_model("model=gan_points", space=Points()),
        "inpaint": make_model("model=pix2pix", condition=Inpaint((1, 28, 28))),
        "vae": make_model("model=cvae_mlp", "prior=flow"),
        "flow matching": make_model("model=flow_matching"),
        "glow": make_model("model=glow"),
        "stylization": make_model("model=stylization", shape=(3, 32, 32), condition=styles),
    }
    for name, model in models.items():
        content = {"condgen": model.recipe, "state_dict": model.state_dict(), "global_step": 0}
        torch.save(content, folder / f"{name}.ckpt")
    return folder


def test_sampling_imports_nothing_of_training_in_any_family(family_checkpoints, gan_run, tmp_path):
    """Neither loading in Python nor the command, from noise and from a picture: one after the other in one interpreter."""
    save_png(tmp_path / "start.png", torch.zeros(1, 40, 40, dtype=torch.uint8))
    code = """
import json, sys
import condgen
from condgen.cli import main
run, start, *checkpoints = sys.argv[1:]
for path in checkpoints:
    model = condgen.load(path)
    assert not model.training and not any("discriminator" in name for name, _ in model.named_modules())
print(json.dumps(sorted(sys.modules)))
for wish in ([run, "--condition", "3", "--out", "a.png"], [start, "--image", "start.png", "--out", "b.png"]):
    sys.argv = ["condgen", "sample", *wish, "--count", "2"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""
    checkpoints = sorted(family_checkpoints.iterdir())
    printed = python(code, gan_run, family_checkpoints / "inpaint.ckpt", *checkpoints, cwd=tmp_path).splitlines()
    loading, sampling = (set(json.loads(line)) for line in printed if line.startswith("["))
    families = ("gan", "vae", "flow_matching", "glow", "stylization")
    assert {f"condgen.generators.{family}" for family in families} <= loading
    assert "pydantic" not in loading  # which only checks command lines and configurations
    assert needless(loading) == [] and needless(sampling) == []
    assert (tmp_path / "a.png").exists() and (tmp_path / "b.png").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["sample", "--help"], ["resume", "--help"]], ids=" ".join)
def test_help_imports_neither_torch_nor_hydra(arguments, tmp_path):
    assert sorted(imported(ASK, *arguments, cwd=tmp_path) & HEAVY) == []


@pytest.mark.parametrize("line", ["condgen tr", "condgen train model=cg", "condgen sample RUN --c"])
def test_completing_names_imports_neither_torch_nor_hydra(line, tmp_path, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    assert sorted(imported(ASK, "-sc", "query=bash", cwd=tmp_path) & HEAVY) == []


def test_what_sampling_does_not_need_is_not_read_into_memory(gan_run, tmp_path):
    """An optimizer's state is twice the weights: it stays in the file."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("needs Linux, to ask which pages of a file are in memory")
    content = read(gan_run / "checkpoints" / "last.ckpt") | {"optimizer_states": [torch.ones(2**24)]}  # 64 MB
    path = tmp_path / "large.ckpt"
    torch.save(content, path)
    del content
    content = read(path)
    blocks = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    resident = sum(int(block.split("Rss:")[1].split()[0]) for block in blocks)  # kB
    assert blocks and resident < 16 * 1024, f"{resident} kB of {path.stat().st_size // 1024} kB"
    assert content["optimizer_states"][0][-1] == 1  # and it is there for whoever goes on
