"""Images between files and tensors: decoded, brought to a size and to a colour."""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from condgen.errors import CondgenError
from condgen.spaces import Images, Space, to_float
from condgen.waveforms import Waveforms

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""
BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
"""What Pillow and zipfile raise on files that are damaged."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused in a sentence where they are too large


@dataclass(frozen=True)
class Picture:
    """An image file, in a folder or in an archive: its name for messages and how to read its bytes."""

    name: str
    read: Callable[[], bytes]


def read_picture(path: str | Path, space: Space) -> Tensor:
    """Read a picture as a sample of ``space``, float32 (C, H, W), or (C + 1, H, W) with its opacity where it has one.

    Where samples are waveforms it is a recording, float32 (length,).

    Raises:
        CondgenError: no such file, or no picture, or the samples are no square images.
    """
    path = Path(path)
    if not path.is_file():
        raise CondgenError(f"--image {path} is not a file.")
    return picture_as_sample(Picture(str(path), path.read_bytes), space)


def picture_as_sample(picture: Picture, space: Space) -> Tensor:
    """Decode a picture, or a recording where samples are waveforms, as a sample of ``space``; see `read_picture`."""
    if isinstance(space, Waveforms):
        return space.read(picture.name, picture.read())
    if not isinstance(space, Images) or space.shape[1] != space.shape[2]:
        raise CondgenError("--image is for models of square images.")
    colours = to_float(decode(picture, space.shape[1], space.shape[0]))
    if (alpha := opacity(picture)) is None:
        return colours
    return torch.cat([colours, to_float(resize(alpha[None], space.shape[1])[0])])


def decode(picture: Picture, size: int | None = None, channels: int | None = None) -> Tensor:
    """Decode one picture to uint8 (C, H, W).

    Args:
        picture: the file.
        size: side in pixels to which it is cropped and resized; None: as it is.
        channels: 1 (grey) or 3 (colour); None: as it is.

    Raises:
        CondgenError: the file is damaged, encrypted or too large, or holds more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(picture.read())) as image:
            mode = image.mode
            pixels = np.array(image.convert("L" if mode in ("1", "L", "LA") else "RGB"))  # (H, W) or (H, W, 3)
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise CondgenError(f"{picture.name} has more than {most:.0f} megapixels: make it smaller.") from None
    except RuntimeError as error:  # of zipfile
        raise CondgenError(f"{picture.name} cannot be read: {str(error).rstrip('.')}.") from None
    except BROKEN as error:
        reason = getattr(error, "strerror", None) or error
        raise CondgenError(
            f"{picture.name} is not a readable image, it is corrupt or truncated ({reason}): put a whole copy there, or none."
        ) from None
    if mode[0] in "IF":
        raise CondgenError(f"{picture.name} has more than 8 bits a channel (mode {mode}): convert it to 8 bits.")
    planes = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    return resize(recolour(planes[None], channels), size)[0]


def opacity(picture: Picture) -> Tensor | None:
    """Return how opaque a picture is, uint8 (1, H, W); None where it is opaque everywhere by its kind."""
    with Image.open(io.BytesIO(picture.read())) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return None
        return torch.from_numpy(np.array(image.convert("RGBA"))[:, :, 3])[None]


def to_picture(pixels: Tensor) -> Image.Image:
    """Return a uint8 tensor (C, H, W), C = 1 or 3, as a picture of Pillow's."""
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).cpu().numpy())  # (H, W) or (H, W, 3)


def to_png(pixels: Tensor, texts: Mapping[str, str] | None = None) -> bytes:
    """Return a uint8 tensor (C, H, W), C = 1 or 3, as the bytes of a PNG, with ``texts`` beside the pixels, by keyword."""
    chunks, file = PngInfo(), io.BytesIO()
    for keyword, text in (texts or {}).items():
        chunks.add_itxt(keyword, text)
    to_picture(pixels).save(file, format="PNG", pnginfo=chunks)
    return file.getvalue()


def recolour(images: Tensor, channels: int | None) -> Tensor:
    """Turn uint8 images (N, C, H, W) to grey (``channels`` = 1) or colour (3); None and equal ``channels`` change nothing."""
    if channels is None or channels == images.shape[1]:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).round_().to(torch.uint8)


def resize(images: Tensor, size: int | None) -> Tensor:
    """Crop uint8 images (N, C, H, W) to the centre square and resize it to (N, C, size, size), antialiased; None: as is."""
    height, width = images.shape[-2:]
    if size is None or height == width == size:
        return images
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side].float()
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)
