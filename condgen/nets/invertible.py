"""Invertible layers of a flow (Kingma & Dhariwal 2018, section 3), each for images (B, C, H, W) and a condition's vector v.

A layer maps (x, v) to (y, log |det dy/dx|), and `inverse` maps (y, v) back to x. Under autocast only the networks within the
couplings are narrower: what has to be inverted keeps the type of x.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOUND = 3.0
"""Bound of a predicted log scale: no layer shrinks or widens a value by more than a factor of 20."""
MakeNet = Callable[..., nn.Module]
"""Makes the network of a coupling from (inputs, outputs, size, signal): a partial of those in nets/glow.py."""


class Invertible(nn.Module, ABC):
    """A map that can be undone."""

    @abstractmethod
    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, C, H, W), given v (B, signal); also return the log-determinant, (B,)."""

    @abstractmethod
    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        """Undo `forward`."""


def standardize(x: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x - mean) / scale and its log-determinant (B,): noise, where x is normal with that mean and scale."""
    return (x - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)


class ActNorm(Invertible):
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


class Mix(Invertible):
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


class Coupling(Invertible):
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


class Base(Invertible):
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
            return statistics(self.set(v).view(v.shape[0], 2 * self.shape[0], *self.shape[1:]))

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return standardize(x, *self.statistics(v))

    def inverse(self, y: Tensor, v: Tensor) -> Tensor:
        mean, log_scale = self.statistics(v)
        return mean + log_scale.exp() * y


def statistics(said: Tensor) -> tuple[Tensor, Tensor]:
    """Cut what a network says (B, 2C, H, W) into a mean and a log scale within `BOUND`."""
    mean, raw = said.chunk(2, dim=1)
    return mean, BOUND * torch.tanh(raw / BOUND)


class FromVector(nn.Module):
    """Numbers (B, outputs) that the condition's vector v decides, as a linear map that starts at zero; v may have no length."""

    def __init__(self, signal: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, signal))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, signal)."""
        return F.linear(v, self.weight, self.bias) if v.shape[1] else self.bias.expand(v.shape[0], -1)
