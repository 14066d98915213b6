"""Glow as a network: an invertible map of images to standard normal noise, for a condition (Kingma & Dhariwal 2018, figure 2).

Its layers are in nets/invertible.py, the networks that decide its couplings at the end of this file.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.invertible import ActNorm, Base, Coupling, FromVector, Invertible, MakeNet, Mix
from condgen.nets.layers import MakeEmbedding, embedding_of
from condgen.spaces import Images, Space
from condgen.types import PositiveInt, Widths


class Flow(nn.Module):
    """Map images (B, C, H, W) to noise (B, C H W) and back.

    Each level squeezes 2x2 pixels into channels, takes its steps and lets half of the channels go: they are standardized by
    what the other half and the condition predict, and so become noise (Dinh et al. 2017, section 3.6). All that is left after
    the last level is standardized by what the condition alone predicts. This is the class-conditional Gaussian base.

    Args:
        condition: what can be asked for.
        space: what an image is.
        steps: number of steps at each level; sides halve from one to the next.
        fine: makes the networks of the couplings at all levels but the last.
        coarse: makes those at the last level, where images are smallest.
        embedding: how the condition enters; None keeps it out.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        steps: Widths,
        fine: MakeNet,
        coarse: MakeNet,
        embedding: MakeEmbedding | None,
    ):
        super().__init__()
        channels, height, width = check_sides(space, steps)
        self.embed = embedding_of(condition, embedding if condition.width else None)
        self.levels = nn.ModuleList()
        for i, count in enumerate(steps):
            channels, height, width = 4 * channels, height // 2, width // 2
            last = i + 1 == len(steps)
            make = coarse if last else fine
            self.levels.append(Level(count, channels, (height, width), self.embed.width, make, last))
            channels //= 2

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return noise (B, C H W) and the log-determinant (B,), for encoded conditions (B, ...)."""
        v = self.embed(condition).to(x.dtype)
        noise, log_determinant = [], x.new_zeros(len(x))
        for level in self.levels:
            x, gone, change = level(x, v)
            noise.append(gone)
            log_determinant = log_determinant + change
        return torch.cat(noise, dim=1), log_determinant

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the images (B, C, H, W) that noise (B, C H W) stands for."""
        v = self.embed(condition).to(z.dtype)
        levels = [level for level in self.levels if isinstance(level, Level)]
        parts = torch.split(z, [prod(level.gone) for level in levels], dim=1)
        x = z[:, :0]  # nothing stays at the last level
        for level, part in zip(reversed(levels), reversed(parts), strict=True):
            x = level.inverse(x, part, v)
        return x

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor) -> None:
        """Let the activation norms that have seen no data start from these: all in a new flow, none in a trained one."""
        hooks = [
            module.register_forward_pre_hook(lambda norm, inputs: norm.fit(inputs[0]))
            for module in self.modules()
            if isinstance(module, ActNorm) and module.fresh
        ]
        if hooks:
            self.forward(x, condition)  # as it is written, not compiled: that would not see the hooks
        for hook in hooks:
            hook.remove()


class Level(nn.Module):
    """Squeeze, steps of (activation norm, 1x1 convolution, coupling), and a Gaussian for the channels that leave.

    Args:
        steps: number of them.
        channels: after the squeeze.
        size: height and width after it.
        signal: length of v.
        make: makes the networks of the couplings.
        last: all channels leave; else the second half.
    """

    def __init__(self, steps: int, channels: int, size: tuple[int, int], signal: int, make: MakeNet, last: bool):
        super().__init__()
        self.steps = nn.ModuleList()
        for _ in range(steps):
            self.steps.extend([ActNorm(channels), Mix(channels), Coupling(channels, size, signal, make)])
        self.base = Base((channels, *size), signal) if last else Coupling(channels, size, signal, make)
        self.gone = (channels if last else channels // 2, *size)  # the shape of what leaves

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, 2H, 2W) to what stays (B, 2C, H, W) or (B, 0, H, W), the noise that leaves (B, ...), and log |det|."""
        x = F.pixel_unshuffle(x, 2)
        log_determinant = x.new_zeros(len(x))
        for layer in (*self.steps, self.base):
            x, change = layer(x, v)
            log_determinant = log_determinant + change
        stays, gone = torch.split(x, [x.shape[1] - self.gone[0], self.gone[0]], dim=1)
        return stays, gone.flatten(1), log_determinant

    def inverse(self, stays: Tensor, gone: Tensor, v: Tensor) -> Tensor:
        """Return x from what stayed (B, ...), of no length at the last level, and the noise that left (B, ...)."""
        gone = gone.view(-1, *self.gone)
        x = torch.cat([stays, gone], dim=1) if stays.shape[1] else gone
        for layer in (self.base, *reversed(self.steps)):
            assert isinstance(layer, Invertible)
            x = layer.inverse(x, v)
        return F.pixel_shuffle(x, 2)


def check_sides(space: Space, steps: Sequence[int]) -> tuple[int, int, int]:
    """Return the images' shape; raises CondgenError if they cannot be squeezed once for each level."""
    if not isinstance(space, Images):
        raise CondgenError(f"Glow needs images, not {type(space).__name__.lower()}: set model=flow_points.")
    channels, height, width = space.shape
    unit = 2 ** len(steps)
    if height % unit or width % unit:
        raise CondgenError(
            f"Glow with {len(steps)} levels needs sides that are multiples of {unit}, not {height}x{width}: set "
            "data.image_size to one, or give model.generator.network.steps fewer levels."
        )
    return channels, height, width


# --- networks of couplings: (B, inputs, H, W) and v to (B, outputs, H, W), zero at the start ---


class Convolutions(nn.Module):
    """Convolutions of 3x3, 1x1 and 3x3, as in Glow; the condition sets gain and bias after the first.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: height and width.
        signal: length of v.
        width: channels between.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], signal: int, width: PositiveInt):
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, outputs, 3, padding=1)
        self.set = FromVector(signal, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        gain, bias = self.set(v)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(bias, self.first(x), 1 + gain))
        said: Tensor = self.out(F.silu(self.second(h)))
        return said


class Dense(nn.Module):
    """Two hidden layers that see the whole image; the condition sets gain and bias after the first.

    For images of few pixels, such as the coarsest level's, it does in a millisecond what takes many convolutions: each place
    hears of all others.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: height and width.
        signal: length of v.
        width: of the hidden layers.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], signal: int, width: PositiveInt):
        super().__init__()
        self.shape = (outputs, *size)
        self.first = nn.Linear(inputs * prod(size), width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, prod(self.shape))
        self.set = FromVector(signal, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        gain, bias = self.set(v).chunk(2, dim=1)
        h = F.silu(torch.addcmul(bias, self.first(x.flatten(1)), 1 + gain))
        said: Tensor = self.out(F.silu(self.second(h)))
        return said.view(-1, *self.shape)
