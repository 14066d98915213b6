"""Tiny data sets for the tests of the data layer."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import png
from PIL import Image


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests out of the user's cache."""
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive in EDM's layout; ``labels`` one a picture, or None."""

    def make(name: str, pictures: list[np.ndarray], labels: list[Any] | None, **index: Any) -> Path:
        path = tmp_path / name
        names = [f"00000/img{i:08d}.png" for i in range(len(pictures))]
        pairs = None if labels is None else [list(pair) for pair in zip(names, labels, strict=False)]
        with zipfile.ZipFile(path, "w") as archive:
            for inside, pixels in zip(names, pictures, strict=True):
                archive.writestr(inside, png(pixels))
            archive.writestr("dataset.json", json.dumps({"labels": pairs, **index}))
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write ``{"CLASS/NAME.png": pixels}`` below a folder."""

    def make(pictures: dict[str, np.ndarray]) -> Path:
        root = tmp_path / "pets"
        for name, pixels in pictures.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name)
        return root

    return make
