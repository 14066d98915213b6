"""Glow as a network: an invertible map of images to standard normal noise, for a condition (Kingma & Dhariwal 2018, figure 2).

Every layer maps (x, v) to (y, log |det dy/dx|), where v is the condition's vector, and `inverse` maps (y, v) back to x. Under
autocast only the networks within the couplings are narrower: what has to be inverted keeps the type of x.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.layers import MakeEmbedding, embedding_of
from condgen.spaces import Images, Space

BOUND = 3.0
"""Bound of a predicted log scale: no layer shrinks or widens a value by more than a factor of 20."""
MakeNet = Callable[..., nn.Module]
"""Makes the network of a coupling from (inputs, outputs, size, signal): a partial of `Convolutions` or `Dense`."""


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
        steps: Sequence[int],
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
            noise.append(gone.flatten(1))
            log_determinant = log_determinant + change
        return torch.cat(noise, dim=1), log_determinant

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the images (B, C, H, W) that noise (B, C H W) stands for."""
        v = self.embed(condition).to(z.dtype)
        shapes = [level.gone for level in self.levels]
        parts = z.split([prod(shape) for shape in shapes], dim=1)  # type: ignore[arg-type]
        x: Tensor | None = None
        for level, shape, part in reversed(list(zip(self.levels, shapes, parts, strict=True))):
            x = level.inverse(x, part.view(-1, *shape), v)  # type: ignore[operator, misc]
        assert x is not None
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
        """Map (B, C, 2H, 2W) to what stays (B, 2C, H, W), or (B, 0, H, W), the noise that leaves, and the log-determinant."""
        x = F.pixel_unshuffle(x, 2)
        log_determinant = x.new_zeros(len(x))
        for layer in (*self.steps, self.base):
            x, change = layer(x, v)
            log_determinant = log_determinant + change
        stays, gone = x.split([x.shape[1] - self.gone[0], self.gone[0]], dim=1)
        return stays, gone, log_determinant

    def inverse(self, stays: Tensor | None, gone: Tensor, v: Tensor) -> Tensor:
        """Return x from what stayed (None at the last level) and what left."""
        x = gone if stays is None else torch.cat([stays, gone], dim=1)
        for layer in (self.base, *reversed(self.steps)):
            x = layer.inverse(x, v)  # type: ignore[operator]
        return F.pixel_shuffle(x, 2)


# --- invertible layers ---


def standardize(x: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x - mean) / scale and its log-determinant (B,): noise, where x is normal with that mean and scale."""
    return (x - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)


class ActNorm(nn.Module):
    """y = (x - mean) / exp(log_scale), channel by channel, both learned (section 3.1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    @property
    def fresh(self) -> bool:
        """Whether it is as it was built. No flag has to be kept: data, or weights that were loaded, leave no zeros."""
        return not bool(self.mean.any() or self.log_scale.any())

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Start such that y has mean 0 and variance 1 on these data (B, C, H, W)."""
        self.mean.copy_(x.mean((0, 2, 3)).view_as(self.mean))
        deviation = x.var((0, 2, 3), correction=0).sqrt().clamp(min=1e-3)  # of a channel that is almost constant
        self.log_scale.copy_(deviation.log().view_as(self.log_scale))

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return standardize(x, self.mean, self.log_scale.expand_as(x))

    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        return self.mean + self.log_scale.exp() * y


class Mix(nn.Module):
    """Invertible 1x1 convolution y = W x, whose W is a random rotation at the start (section 3.2).

    W has few channels, so its determinant is cheap and W needs no decomposition.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0].contiguous())

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            log_determinant = torch.linalg.slogdet(self.weight)[1] * (x.shape[2] * x.shape[3])
            return F.conv2d(x, self.weight[:, :, None, None]), log_determinant.expand(len(x))

    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            return F.conv2d(y, torch.linalg.inv(self.weight)[:, :, None, None])


class Coupling(nn.Module):
    """(a, b) becomes (a, (b - mean) / scale), where a and the condition decide mean and scale (section 3.3).

    Starts as the identity. At a split b leaves, and this is its conditional Gaussian.

    Args:
        channels: of (a, b); each has half.
        size: height and width.
        signal: length of v.
        make: makes the network.
    """

    def __init__(self, channels: int, size: tuple[int, int], signal: int, make: MakeNet):
        super().__init__()
        self.net = make(inputs=channels // 2, outputs=channels, size=size, signal=signal)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        b, log_determinant = standardize(b, *statistics(self.net(a, v).to(x.dtype)))
        return torch.cat([a, b], dim=1), log_determinant

    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        a, b = y.chunk(2, dim=1)
        mean, log_scale = statistics(self.net(a, v).to(y.dtype))
        return torch.cat([a, mean + log_scale.exp() * b], dim=1)


class Base(nn.Module):
    """(x - mean) / scale, with a mean and a scale for each value, which the condition decides.

    Args:
        shape: of x.
        signal: length of v.
    """

    def __init__(self, shape: Sequence[int], signal: int):
        super().__init__()
        self.shape = tuple(shape)
        self.set = FromVector(signal, 2 * prod(self.shape))

    def statistics(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log scale, (B, C, H, W) each."""
        with torch.autocast(v.device.type, enabled=False):
            return statistics(self.set(v).view(len(v), 2 * self.shape[0], *self.shape[1:]))

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return standardize(x, *self.statistics(v))

    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        mean, log_scale = self.statistics(v)
        return mean + log_scale.exp() * y


def statistics(said: Tensor) -> tuple[Tensor, Tensor]:
    """Cut what a network says (B, 2C, H, W) into a mean and a log scale within `BOUND`."""
    mean, raw = said.chunk(2, dim=1)
    return mean, BOUND * torch.tanh(raw / BOUND)


# --- networks of couplings: (B, inputs, H, W) and v to (B, outputs, H, W), zero at the start ---


class FromVector(nn.Module):
    """Numbers (B, outputs) that the condition's vector v decides, as a linear map that starts at zero; v may have no length."""

    def __init__(self, signal: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, signal))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, signal)."""
        return F.linear(v, self.weight, self.bias) if v.shape[1] else self.bias.expand(len(v), -1)


class Convolutions(nn.Module):
    """Convolutions of 3x3, 1x1 and 3x3, as in Glow; the condition sets gain and bias after the first.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: height and width.
        signal: length of v.
        width: channels between.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], signal: int, width: int):
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

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], signal: int, width: int):
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


def check_sides(space: Space, steps: Sequence[int]) -> tuple[int, int, int]:
    """Return the images' shape; raises CondgenError if they cannot be squeezed once for each level."""
    if not isinstance(space, Images):
        raise CondgenError(f"Glow needs images, not {type(space).__name__.lower()}: set model=flow_points.")
    if not steps or min(steps) < 1:
        raise CondgenError(f"model.network.steps={list(steps)} must give each level at least one step.")
    channels, height, width = space.shape
    unit = 2 ** len(steps)
    if height % unit or width % unit:
        raise CondgenError(
            f"Glow with {len(steps)} levels needs sides that are multiples of {unit}, not {height}x{width}: set "
            "data.image_size to one, or give model.network.steps fewer levels."
        )
    return channels, height, width
