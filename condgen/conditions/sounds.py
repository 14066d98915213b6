"""Sounds to start from: the log-mel image of the waveform that is to be found again."""

from typing import Any

from torch import Tensor

from condgen.conditions.images import ImageCondition
from condgen.errors import CondgenError
from condgen.spaces import Space
from condgen.waveforms import Waveforms


class MelImage(ImageCondition):
    """The log-mel image of a waveform, (N, 1, bands, frames): what is lost of the sound is its phase and what bands merge.

    Args:
        space: of the waveforms, which says how their images are made.
    """

    channels = 1

    def __init__(self, space: Space | None):
        if not isinstance(space, Waveforms):
            raise CondgenError(
                "condition=mel needs samples that are waveforms: choose data of sounds with "
                "data.source.space._target_=condgen.waveforms.Waveforms."
            )
        super().__init__(space.view.shape)
        self.space = space

    @property
    def title(self) -> str:
        own = self.space.view.settings
        return f"log-mel, {own['bands']} bands, fft {own['fft']}, hop {own['hop']}, {own['rate']} Hz"

    def config(self) -> dict[str, Any]:
        return {"_target_": "condgen.conditions.MelImage", "space": self.space.config()}

    def schema(self) -> dict[str, Any]:
        sound = {"type": "string", "contentEncoding": "base64", "contentMediaType": "audio/wav", "title": "image"}
        return {"type": "object", "properties": {"image": sound | {"kind": "melimage"}}, "required": ["image"]}

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        return self.space.viewed(x)

    def of_picture(self, image: Tensor) -> Tensor:
        """Make the log-mel images of a user's recordings (N, length)."""
        return self.space.viewed(image)

    def guesses(self, condition: Tensor) -> dict[str, Tensor]:
        """The waveforms of Griffin & Lim's method, which learns nothing."""
        return {"Griffin-Lim": self.space.view.waves(condition)}
