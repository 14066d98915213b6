"""condgen from a wheel: built, installed into an empty environment, run from an empty directory."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=1500)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel; isolated, so hatchling comes from the package index."""
    if not shutil.which("uv"):
        pytest.skip("uv is not installed: pip install uv")
    folder = tmp_path_factory.mktemp("dist")
    built = run("uv", "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    unreachable = ("Failed to fetch", "error sending request", "dns error", "Connection refused", "Request failed after")
    if built.returncode and any(words in built.stderr for words in unreachable):
        pytest.skip("the package index cannot be reached")
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_holds_configuration_mnist_and_the_zoo(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = [file for file in (ROOT / "condgen" / "zoo").glob("*/*.*") if "__pycache__" not in file.parts]
    assert any(file.suffix == ".safetensors" for file in shipped)
    shipped += (ROOT / "condgen" / "metrics" / "known").glob("*.safetensors")
    for file in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "condgen" / "data" / "files").rglob("*.gz"), *shipped]:
        inside = Path("condgen") / file.relative_to(ROOT) if file.is_relative_to(ROOT / "conf") else file.relative_to(ROOT)
        assert inside.as_posix() in names
    assert not any(name.startswith(("tests/", "outputs/", "conf/", "scripts/")) for name in names)


def test_it_trains_where_nothing_else_is(wheel, tmp_path):
    constraints = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    (tmp_path / "constraints.txt").write_text("\n".join(constraints))
    python = tmp_path / "venv" / "bin" / "python"
    assert run("uv", "venv", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path).returncode == 0
    installed = run("uv", "pip", "install", "--python", python, "-c", "constraints.txt", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    condgen = tmp_path / "venv" / "bin" / "condgen"
    help_text = run(condgen, "--help", cwd=empty)
    assert help_text.returncode == 0 and "train" in help_text.stdout, help_text
    trained = run(condgen, "train", "debug=default", cwd=empty)
    assert trained.returncode == 0 and "Trained 2 updates" in trained.stderr, trained.stderr
    assert not list(empty.iterdir())
