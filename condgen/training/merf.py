"""A generator fitted to mean embeddings of its classes (DP-MERF, Harder et al. 2021; MMD: Gretton et al. 2012).

    min_G sum_c || mu_c - E_z phi(G(z, c)) ||^2,    mu_c = S_c / n_c,    S = sum_i [phi(x_i), a] e_{c_i} (+ noise)

S is all that is ever known of the images. Under differential privacy it is released once, with Gaussian noise: one image moves
it by at most sqrt(1 + a^2), since no phi is longer than 1, and the training after it spends nothing. The last column, of
constants a, counts the classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from condgen.conditions import ClassLabel, Condition, NoCondition
from condgen.data import DataModule
from condgen.data.loader import BatchLoader
from condgen.errors import CondgenError
from condgen.generators.gan import GANGenerator
from condgen.losses.mean_embedding import Features, LayerFeatures
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import SingleNetwork

COUNTED = 0.1
"""The constant a: small beside the features' norm of 1, and yet counts of thousands are known to a percent."""


class MERF(SingleNetwork):
    """The training of a generator by mean embeddings.

    Args:
        space: what a sample is.
        condition: what can be asked for: a class, or nothing.
        loss: phi, the features whose means are matched.
        generator: makes G from (space, condition), see `GANGenerator`.
        optimizer: makes the optimizer from the parameters.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.

    Raises:
        CondgenError: a loss that is no features, or a condition without classes.
    """

    mechanism = "once"
    objective = None
    generator: GANGenerator
    sums: Tensor
    """S, (K, length + 1); zeros until the images were looked at."""

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Features,
        generator: Callable[..., GANGenerator],
        optimizer: MakeOptimizer,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        if not isinstance(loss, Features):
            raise CondgenError(
                f"MERF needs features and {type(loss).__name__} has none: choose loss=mean_embedding or loss=layer_embedding."
            )
        if not isinstance(condition, ClassLabel | NoCondition):
            raise CondgenError("MERF has a mean embedding for each class: choose condition=class or condition=none.")
        self.generator = generator(space=space, condition=condition)
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.features = loss
        if isinstance(loss, LayerFeatures):
            self.frozen_networks = [loss.network]
            if self.options.channels_last:
                loss.network.to(memory_format=torch.channels_last)
        self.register_buffer("sums", torch.zeros(max(1, condition.width), loss.length(space.shape) + 1))
        self.keep_average()
        self.options.compiled(self.generator.network)

    # --- what is known of the images ---

    def private_networks(self) -> list[nn.Module]:
        """See `Training.private_networks`: none, a step looks at no image."""
        return []

    def on_train_start(self) -> None:
        """Look at all images, once in a run."""
        super().on_train_start()
        if not self.sums.any():
            self.sums.copy_(self.looked_up())

    def looked_up(self) -> Tensor:
        """Return S, with the noise of a private training; every process computes all of it."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.require_public(data)
        with self.trainer.precision_plugin.forward_context():  # as in the steps: what is compared is made alike
            total = self.summed(data.ordered(data.train))
        if self.privacy is None:
            return total.to(self.sums.dtype)
        bound = (1 + COUNTED**2) ** 0.5
        return self.privacy.privacy.noisy([total], bound, "mean embedding")[0].to(self.sums.dtype)

    def require_public(self, data: DataModule) -> None:
        """Refuse a private training by features that the same data made, of which the noise covers nothing."""
        for network in self.frozen_networks if self.privacy else ():
            learned = getattr(network, "learned", None) or {}
            if learned.get("source") == type(data.source).__name__:
                raise CondgenError(
                    f"loss.network was trained on the same data ({learned['source']}), and no noise covers what it knows of "
                    "them: take one that public images trained, such as fashion-cnn for MNIST."
                )

    @torch.no_grad()
    def summed(self, loader: BatchLoader) -> Tensor:
        """Return S without noise, float64, of all that a loader goes through."""
        loader.rank, loader.world = 0, 1
        total = torch.zeros_like(self.sums, dtype=torch.float64)
        for x, condition in loader:
            features = self.features(x).double()
            # No longer than 1, which the noise is measured by, whatever phi is.
            features = features / features.norm(dim=1, keepdim=True).clamp(min=1)
            total += self.classes(condition).double().T @ self.with_constant(features)
        return total

    def alone(self, x: Tensor, condition: Tensor, number: int = 0) -> Tensor:
        """See `Training.alone`: the inner product of each sample's own part of S with S."""
        own = self.with_constant(self.features(x))
        return (own * (self.classes(condition) @ self.sums)).sum(1)

    def classes(self, condition: Tensor) -> Tensor:
        """Return conditions (B, ...) one-hot, (B, K); without classes all are of one."""
        return self.condition.vector(condition) if self.condition.width else condition.new_ones(len(condition), 1)

    def with_constant(self, features: Tensor) -> Tensor:
        """Put the constant a beside features (B, length)."""
        return torch.cat([features, features.new_full((len(features), 1), COUNTED)], dim=1)

    def embeddings(self) -> Tensor:
        """Return mu, (K, length): the mean embedding of each class, by counts as they are known."""
        counts = (self.sums[:, -1:] / COUNTED).clamp(min=1.0)
        return self.sums[:, :-1] / counts

    # --- a training step ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the squared distance of the mean embeddings, without bias; the batch says only how many samples to draw."""
        each = max(2, len(batch[0]) // len(self.sums))
        condition = self.condition.every() if self.condition.width else torch.zeros(1, 0)
        condition = condition.repeat(each, *[1] * (condition.dim() - 1)).to(self.device)
        x = self.generator(self.rows(self.generator.latents, len(condition), "noise"), condition)
        features = self.features(x).float().view(each, len(self.sums), -1)
        # The product of two halves' distances: the square of one would be larger by the variance within the batch, and lowered
        # by samples that are all alike.
        first, second = (half.mean(0) - self.embeddings() for half in (features[: each // 2], features[each // 2 :]))
        loss = (first * second).sum() / len(self.sums)
        self.record(loss=loss)
        return loss
