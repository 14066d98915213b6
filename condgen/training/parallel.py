"""Training by several processes, each on its share of the batch: what is sent between them, and when.

Once an update, the gradients of the player that is updated are averaged, in one message; nobody else's are sent, and nothing
between the micro-batches of an update. torch's DistributedDataParallel has one reducer for all parameters that it wraps and
sends all of them after each backward pass, a GAN's other player's zeros too. (StyleGAN2-ADA and EDM average as is done here,
training_loop.py of the authors' code.) What this gives up is sending while the backward pass still runs.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgen.generators.sampling import tracking_norms


def strategy(name: Any, processes: int) -> Any:
    """Return `Processes` for ddp, and for auto with several ``processes``; else what Lightning makes of the name."""
    return Processes() if name == "ddp" or (name == "auto" and processes > 1) else name


class Processes(DDPStrategy):
    """Lightning's strategy for several processes, without torch's wrapper around the model: the model calls `average`."""

    def setup(self, trainer: Any) -> None:
        """Let batch norm see the whole batch, where that is asked for, on CPUs too."""
        if self._layer_sync and self.root_device.type == "cpu":
            self._layer_sync = SynchronizeBatchNorm()
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Start all processes from the weights of the first."""
        assert self.model is not None
        _sync_module_states(self.model)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, of the same shapes in every process, by its mean over the processes.

        One message for each kind of number: many small ones would wait for the network's latency many times.
        """
        for _, group in groupby(sorted(tensors, key=lambda t: str(t.dtype)), key=lambda t: t.dtype):
            same = list(group)
            message = torch.cat([tensor.reshape(-1) for tensor in same])
            self.add_up(message)
            parts = torch.split(message / self.world_size, [tensor.numel() for tensor in same])
            torch._foreach_copy_(same, [part.view(tensor.shape) for part, tensor in zip(parts, same, strict=True)])

    def add_up(self, message: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        dist.all_reduce(message)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Return the running means and variances of a network's batch norms."""
    kept = ((norm.running_mean, norm.running_var) for norm in tracking_norms(network))
    return [found for pair in kept for found in pair if found is not None]


class SynchronizeBatchNorm(LayerSync):
    """Makes batch norms look at the samples of all processes; torch's own ``SyncBatchNorm`` does so on GPUs only."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the layers in place, so that whoever holds one of their tensors, as an average does, goes on holding it."""
        for module in list(model.modules()):
            if type(module) in SYNCHRONIZED:
                module.__class__ = SYNCHRONIZED[type(module)]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make them plain again."""
        for module in list(model.modules()):
            if isinstance(module, Synchronized):
                module.__class__ = type(module).__bases__[1]
        return model


class Synchronized(_BatchNorm):
    """A batch norm over the samples of all processes, each of which has as many."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C, ...) by the mean and the variance of each channel over all processes' batches and places."""
        if not self.training:
            return super().forward(x)
        places = [dim for dim in range(x.dim()) if dim != 1]
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = Sum.apply(x.float().sum(places)) / count  # (C,)
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        centred = x.float() - mean.view(shape)
        variance = Sum.apply(centred.square().sum(places)) / count  # (C,)
        self.follow(mean.detach(), variance.detach() * count / max(1, count - 1))
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        normalized: Tensor = y.to(x.dtype)
        return normalized

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Let the running statistics follow those of a batch."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class Synchronized1d(Synchronized, nn.BatchNorm1d):
    """Of samples that are vectors."""


class Synchronized2d(Synchronized, nn.BatchNorm2d):
    """Of samples that are images."""


class Synchronized3d(Synchronized, nn.BatchNorm3d):
    """Of samples that are volumes."""


SYNCHRONIZED: dict[type[nn.Module], type[Synchronized]] = {
    nn.BatchNorm1d: Synchronized1d,
    nn.BatchNorm2d: Synchronized2d,
    nn.BatchNorm3d: Synchronized3d,
}


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each one's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        """Return the sum."""
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the sum of the gradients."""
        return Sum.apply(gradient.contiguous())
