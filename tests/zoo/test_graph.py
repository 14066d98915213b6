"""Graphs: they draw what torch draws, for any size of the batch, and ONNX does so where torch is not imported."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import make_model

import condgen
from condgen.conditions import Attributes, Captions, Category, Inpaint, NoCondition, Number
from condgen.errors import CondgenError
from condgen.exporting.graph import MOST, Drawing, difference, example, write_onnx, write_pt2

ROOT = Path(condgen.__file__).parents[1]
RUN = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["condgen"])
inputs = np.load(sys.argv[2])
samples = [session.run(None, {name: inputs[name][:count] for name in about["inputs"]})[0] for count in (1, 5)]
assert "torch" not in sys.modules and "condgen" not in sys.modules
np.savez(sys.argv[3], one=samples[0], five=samples[1])
print(about["largest_difference_from_torch"], about["condition"]["classes"][3], about["card"]["family"])
"""
FIELDS = [Category("digit", tuple("0123456789")), Number("rotation", -45, 45)]
MODELS = {
    "attributes": lambda: make_model("model=acgan_conv", condition=Attributes(FIELDS)),
    "inpaint": lambda: make_model("model=pix2pix", condition=Inpaint((1, 28, 28))),
    "caption": lambda: make_model("model=cgan_conv", condition=Captions(["a red cat", "狗"])),
    "nothing": lambda: make_model("model=cgan_mlp", condition=NoCondition()),
    "VAE": lambda: make_model("model=cvae_conv", "prior=flow"),
    "spectral norm": lambda: make_model("model=biggan", shape=(3, 32, 32)),
    "flow matching": lambda: make_model("model=flow_matching", "model.generator.steps=2", "model.generator.guidance=1.5"),
}


@pytest.mark.slow
def test_onnx_draws_the_same_where_torch_is_not(exported, run_condgen, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    result = run_condgen("export", exported, "--format", "onnx", "--out", "digits.onnx")
    assert result.code == 0 and "differs from torch by at most" in result.out, result
    generator = condgen.load(exported)
    inputs = example(generator, 5, 0)
    np.savez(tmp_path / "in.npz", **{name: x.numpy() for name, x in inputs.items()})
    command = [sys.executable, "-c", RUN, "digits.onnx", "in.npz", "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    gap, name, family = done.stdout.split()
    assert 0 <= float(gap) <= MOST and (name, family) == ("3", "GAN")
    found, wanted = np.load(tmp_path / "out.npz"), generator.decode(inputs["latents"], inputs["condition"])
    assert np.abs(found["five"] - wanted.detach().numpy()).max() <= MOST
    assert np.abs(found["one"] - wanted[:1].detach().numpy()).max() <= MOST
    assert str(ROOT).encode() not in (tmp_path / "digits.onnx").read_bytes()  # a graph names no files of this machine
    assert "nothing was overwritten" in run_condgen("export", exported, "--format", "onnx", "--out", "digits.onnx").sentence()


def test_a_program_draws_the_same(exported, run_condgen, tmp_path):
    assert run_condgen("export", exported, "--format", "pt2", "--out", "digits.pt2").code == 0
    files = {"condgen.json": ""}
    draw = torch.export.load(tmp_path / "digits.pt2", extra_files=files).module()
    generator = condgen.load(exported)
    inputs = example(generator, 4, 1)
    assert torch.equal(draw(**inputs), generator.decode(**{"z": inputs["latents"], "condition": inputs["condition"]}))
    with zipfile.ZipFile(tmp_path / "digits.pt2") as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())
    assert json.loads(files["condgen.json"])["samples"]["range"] == [-1, 1]


def test_a_graph_that_is_off_is_refused(exported):
    drawing = Drawing(condgen.load(exported))
    with pytest.raises(CondgenError, match=r"differs from torch by 2\.0e-03"):
        difference(drawing, lambda inputs: drawing(**inputs) + 0.002)
    with pytest.raises(CondgenError, match="differs from torch by inf"):
        difference(drawing, lambda inputs: drawing(**inputs)[:1] if len(inputs["latents"]) > 2 else drawing(**inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_family_becomes_a_graph(name, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    generator = MODELS[name]().generator.eval()
    assert write_onnx(tmp_path / "a.onnx", generator, {}) <= MOST
    assert write_pt2(tmp_path / "a.pt2", generator, {}) == 0


@pytest.mark.slow
def test_what_onnx_lacks_is_named(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    generator = make_model("model=glow").generator.eval()
    with pytest.raises(
        CondgenError, match=r"GlowGenerator like this one cannot be exported by torch.onnx: ONNX has no operator"
    ):
        write_onnx(tmp_path / "a.onnx", generator, {})
    assert not any(tmp_path.iterdir())
