"""Pictures that tests put into folders and archives."""

import io

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W) or (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(seed: int, *shape: int) -> np.ndarray:
    """Draw uint8 pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
