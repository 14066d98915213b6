"""One exported folder of a tiny run, for all tests here."""

from pathlib import Path

import pytest
from command import condgen


@pytest.fixture(scope="session")
def exported(gan_run, tmp_path_factory) -> Path:
    """The GAN of three updates as a folder with weights in 32 bits; not to be changed."""
    root = tmp_path_factory.mktemp("exported")
    result = condgen("export", gan_run, "--out", "digits", "--limit", "It is a test.", cwd=root)
    assert result.code == 0, result
    return root / "digits"
