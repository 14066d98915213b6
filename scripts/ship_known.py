"""Compute what the default run measures of MNIST's validation images, and let it ship in ``condgen/metrics/known``.

    uv run python scripts/ship_known.py

To be repeated where the extractor, the split or a definition of a figure changes: files under old names are not found.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from condgen.metrics.kept import SHIPPED

STEMS = ("reference", "floors", "texture-floors")
"""What takes long and is small: no features of single images."""


def main() -> None:
    """Measure an untrained generator in an empty cache, and keep what was found about the real images."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    SHIPPED.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", "trainer.limit_train_batches=1", f"hydra.run.dir={folder}/run"]
        cache = os.environ | {"CONDGEN_CACHE": f"{folder}/cache"}
        subprocess.run([sys.executable, "-m", "condgen", "train", *words], check=True, env=cache)
        for stem in STEMS:
            for file in Path(folder, "cache", "metrics").glob(f"{stem}-mnist-cnn-*.safetensors"):
                shutil.copyfile(file, SHIPPED / file.name)


if __name__ == "__main__":
    main()
