"""The generator of a vocoder: the waveform of a log-mel image, from a network, then brought to the levels that the image has.

Nothing is random: the same image gives the same sound.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from condgen.audio import Mel
from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.base import Generator, evaluating
from condgen.spaces import Space
from condgen.types import Count
from condgen.waveforms import Waveforms


class VocoderGenerator(Generator):
    """A network that makes waveforms of log-mel images.

    Args:
        space: what a waveform is.
        condition: its log-mel image.
        network: makes f from (condition, space); f(c) is a batch of waveforms.
        steps: how often the levels of their mel bands are then brought nearer to those asked for, see `condgen.audio.Mel`.
    """

    family = "vocoder"
    OPTIONS = ()
    MAKES = (Waveforms,)

    def __init__(self, space: Space, condition: Condition, network: Callable[..., nn.Module], steps: Count = 32):
        super().__init__(space, condition)
        assert isinstance(space, Waveforms)
        self.mel, self.steps = space.view, steps
        self.network = network(condition=condition, space=space)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw nothing, (count, 0): the condition says it all."""
        return torch.empty(count, 0)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the waveforms (B, length) of encoded conditions (B, 1, bands, frames), in [-1, 1]."""
        waves: Tensor = self.network(condition)
        return self.mel.levelled(waves, condition, self.steps).clamp(-1, 1)

    @torch.inference_mode()
    def sound(self, images: Tensor) -> Tensor:
        """Return the waveforms (B, frames * hop) of log-mel images (B, 1, bands, frames), on the CPU."""
        with evaluating(self):
            return self.decode(torch.empty(len(images), 0), images.to(self.device)).cpu()


def listen_by(model: Generator, vocoder: Generator, name: str) -> None:
    """Let the log-mel images of ``model`` be heard by ``vocoder``, whose ``name`` messages have.

    Raises:
        CondgenError: one of the two is none, or the vocoder was trained for images that are made otherwise.
    """
    if not isinstance(model.space, Mel):
        raise CondgenError(f"--vocoder {name} makes sound of log-mel images, and this model makes none: leave it out.")
    if not isinstance(vocoder, VocoderGenerator) or not isinstance(vocoder.space, Waveforms):
        raise CondgenError(f"--vocoder {name} is no vocoder: give a run of model=vocoder.")
    theirs, ours = vocoder.space.view.settings, model.space.settings
    if different := [key for key in theirs if key != "seconds" and theirs[key] != ours[key]]:
        said = (", ".join(f"{key} {settings[key]:g}" for key in different) for settings in (theirs, ours))
        raise CondgenError(
            f"--vocoder {name} was trained for log-mel images of {next(said)} and this model makes them of {next(said)}: "
            "train a vocoder with the data.source.space of this model."
        )
    model.space.vocoder = vocoder
