"""The training around a generator: what every family's LightningModule shares.

A training step's random numbers are a function of (seed, purpose, epoch, batch) and of nothing else, its rates one of the
counted updates, so that a run that was killed goes on to the same bits.
"""

from abc import ABC
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.randomness import generator as keyed_generator
from condgen.randomness import mix, shard
from condgen.spaces import Space
from condgen.training.average import EMA
from condgen.training.compiled import ADVICE, require_compilable
from condgen.training.counts import Counts
from condgen.training.options import Options
from condgen.training.parallel import Processes, running_statistics
from condgen.training.privacy import Privacy
from condgen.training.private import Mechanism, PrivateTraining
from condgen.training.tally import Losses, finite, loss_means, of_all, of_one

Batch = tuple[Tensor, Tensor]
"""Samples x (B, *shape), and encoded conditions (B, ...)."""
Draw = Callable[[int, torch.Generator], Tensor]
"""Draws rows (count, ...) on the CPU from (count, generator)."""
MakeOptimizer = Callable[..., Optimizer]


class Training(L.LightningModule, ABC):
    """Trains a generator. Whoever samples or measures uses `eval_generator`, `space` and `condition` and nothing else.

    A family builds its ``generator`` and whatever else it needs, then calls `keep_average`.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        options: what every family can be told; None: the defaults.
        seed: decides every random number of the training, together with epoch and batch.
    """

    generator: Generator
    """What is trained, with the weights of the last update."""
    objective: str | None = None
    """Validation metric that decides the best checkpoint (smaller is better); None: the newest is the best."""
    batches_per_update: int = 1
    """Batches between two updates that count."""
    steps_compile: ClassVar[bool] = False
    """Whether the family can train with model.options.compile=step."""
    mechanism: ClassVar[Mechanism | None] = None
    """How a private training looks at its images; None: the family cannot be trained privately."""

    def __init__(self, space: Space, condition: Condition, options: Options | None, seed: int):
        super().__init__()
        self.options = options or Options()
        self.options.check(space)
        self.space = space
        self.condition = condition
        self.seed = seed
        self.ema: EMA | None = None
        self.counts = Counts()
        self.recipe: dict[str, Any] = {}
        """What rebuilds this training without its data: plain dicts."""
        self.planning = False
        """Whether the length of the training is still being measured."""
        self.latest: dict[str, float] = {}
        """The newest point of the curves, by loss."""
        self.validation: dict[str, float] = {}
        """The newest validation metrics, of which a resumed run knows too."""
        self.code_variance: Tensor | None = None
        """Variance (latent,) of an encoder's codes over the validation part, once it is known."""
        self.frozen_networks: list[nn.Module] = []
        """Networks that the loss looks through without training them; what measures samples may not share their weights."""
        self.privacy: PrivateTraining | None = None
        self._losses: Losses = []  # since the last point of the curves

    def __setattr__(self, name: str, value: Any) -> None:
        """Let Lightning's note of the running hook, forty times a step, pass by torch's slow bookkeeping."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def keep_average(self) -> None:
        """Bring the networks into their memory format, then start the average of the generator where one is kept."""
        if self.options.channels_last:
            self.to(memory_format=torch.channels_last)
        self.ema = EMA(self.generator, self.options.ema) if self.options.ema else None
        if self.options.compile == "step" and not self.steps_compile:
            families = "GANs, VAEs and flow matching"
            raise CondgenError(f"model.options.compile=step is for {families}, not for {type(self).__name__}: {ADVICE}.")

    def start_compiled(self) -> None:
        """Make the compiled update, where it is asked for; the optimizers have their state."""

    def make_private(self, privacy: Privacy) -> None:
        """Train under differential privacy; no validation image decides which checkpoint is the best."""
        self.privacy = PrivateTraining(privacy, self, self.private_networks())
        self.objective = None

    def private_networks(self) -> list[nn.Module]:
        """Return the networks that a training image goes through in a step; raises CondgenError for what breaks the proof."""
        return []

    def alone(self, x: Tensor, condition: Tensor, number: int = 0) -> Tensor:
        """Return what a step finds for each sample, (B,), in draw ``number`` of noise, the same for all."""
        raise NotImplementedError

    @property
    def eval_generator(self) -> Generator:
        """What is validated, measured and sampled from: the average of the generator where one is kept, else the generator."""
        return self.ema.average if self.ema else self.generator

    @property
    def weights(self) -> str:
        """Which weights `eval_generator` has: "ema", averages over the training, or "raw", those of the last update."""
        return "ema" if self.ema else "raw"

    def statistics(self) -> dict[str, Tensor]:
        """Return scalars of the last update by which `condgen.callbacks.diagnosis` judges it; none by default."""
        return {}

    # --- randomness: a function of (seed, purpose, epoch, batch) ---

    def rows(self, draw: Draw, size: int, purpose: str) -> Tensor:
        """Draw for the present batch of all processes and return this process's ``size`` rows, on its device."""
        stream = keyed_generator(self.seed, purpose, self.counts.epochs, self.counts.batch - 1)
        world = self.trainer.world_size
        return shard(draw(size * world, stream), self.global_rank, world).to(self.device, non_blocking=True)

    def fixed_rows(self, draw: Draw, size: int, purpose: str, batch: int) -> Tensor:
        """Draw for a whole validation batch and return this process's ``size`` rows, the same in every epoch."""
        # The batch is shared by all processes (`BatchLoader`), perhaps unevenly: one validates as several do.
        total = self.trainer.strategy.reduce(torch.tensor(float(size), device=self.device), reduce_op="sum")
        drawn = draw(int(total), keyed_generator(self.seed, purpose, batch))
        return drawn.tensor_split(self.trainer.world_size)[self.global_rank].to(self.device)

    # --- where the training stands ---

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and the batch in it that come next: where the training's loader begins."""
        return self.counts.epochs, self.counts.batch

    @property
    def epoch_over(self) -> bool:
        """Whether the present batch is the last of its epoch."""
        return self.counts.batch >= self.trainer.num_training_batches

    def on_train_start(self) -> None:
        """Between two epochs a resumed run begins the next one as an undisturbed run would."""
        if self.counts.batch == 0:
            self.trainer.fit_loop.epoch_loop.restarting = False
        if self.privacy:
            self.privacy.start()
        if self.options.compile == "step":
            require_compilable(self.trainer)
            self.start_compiled()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Count the batch, set its rates, and seed what layers draw by themselves (dropout): a resumed run draws it again."""
        self.counts.batches += 1
        self.counts.batch += 1
        if self.privacy:
            self.privacy.step()
        self.set_rates()
        seed = mix(self.seed, "layers", self.counts.epochs, self.counts.batch - 1, self.global_rank)
        # torch.manual_seed would also queue a seed for every absent device, at a hundred times the cost.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bring images into the networks' memory format."""
        x, condition = batch
        memory_format = torch.channels_last if self.options.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=memory_format) if x.dim() == 4 else x, condition

    def on_train_epoch_end(self) -> None:
        """Log the last losses; the epoch counts unless the run ends within it."""
        self.flush()
        if self.epoch_over:
            self.counts.epochs += 1
            self.counts.batch = 0

    def count_update(self) -> None:
        """Count an update of the generator, and let its average follow: before any checkpoint of this update is written."""
        self.counts.updates += 1
        if self.ema and self.options.compile != "step":  # where it follows within the step
            self.ema.update(self.counts.updates)

    @property
    def planned_batches(self) -> int | None:
        """Batches of the whole run; None where nothing bounds it."""
        trainer, ends = self.trainer, []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            ends.append(trainer.max_epochs * int(trainer.num_training_batches))
        if trainer.max_steps >= 0:
            ends.append(trainer.max_steps * self.batches_per_update * trainer.accumulate_grad_batches)
        return min(ends, default=None)

    def progress(self) -> float:
        """Return which share of the training lies behind, in [0, 1]; 0 while its length is still being planned."""
        if self.planning:
            return 0.0
        if self.planned_batches is None:
            raise CondgenError("model.options.decay needs to know the end: set trainer.max_epochs or trainer.max_steps.")
        return min(1.0, (self.counts.batches - 1) / self.planned_batches)

    def set_rates(self) -> None:
        """Set the learning rates of the updates on this batch: warm-up times decay."""
        warmup, decay = self.options.warmup, self.options.decay
        if warmup or decay:
            growth = min(1.0, (self.counts.updates + 1) / warmup) if warmup else 1.0
            factor = growth * (decay(self.progress()) if decay else 1.0)
            for group in (group for optimizer in self.trainer.optimizers for group in optimizer.param_groups):
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])  # kept in the checkpoint

    def average_over_processes(self, parameters: Iterable[nn.Parameter], network: nn.Module | None = None) -> None:
        """Average gradients over all processes once they are all there, and the running statistics of a network with them."""
        if isinstance(self.trainer.strategy, Processes):
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self.trainer.strategy.average([*gradients, *(running_statistics(network) if network else ())])

    def clip(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale the gradients of ``parameters`` down to the largest norm that is allowed."""
        if self.options.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.options.gradient_clip)

    # --- curves ---

    def record(self, **values: Tensor) -> None:
        """Keep this batch's scalars; their means reach the loggers every ``log_every_n_steps`` batches, without waiting."""
        self._losses.append({name: value.detach() for name, value in values.items()})
        if len(self._losses) >= self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.flush(self.counts.updates + self.automatic_optimization)  # which updates after `training_step`

    def flush(self, step: int | None = None) -> None:
        """Log the means of the recorded batches, over all processes, at ``step`` (None: the present one), and forget them.

        Raises:
            CondgenError: one of them is not finite; names it and its batch.
        """
        if self._losses:
            self.latest = loss_means(self._losses, self.mean, self.counts.batches, self.counts.updates)
            self._losses = []
            if self.privacy:
                self.latest |= self.privacy.curves()
            self.publish({f"train/{name}": value for name, value in self.latest.items()}, step)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``value`` over all processes."""
        mean: Tensor = self.trainer.strategy.reduce(value.to(self.device), reduce_op="mean")
        return mean

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over all processes."""
        total: Tensor = self.trainer.strategy.reduce(value, reduce_op="sum")
        return total

    def publish(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send scalars to all loggers; their step axis is the number of updates (of the generator, for a GAN)."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.counts.updates if step is None else step)

    def publish_validation(self, metrics: dict[str, float]) -> None:
        """Send validation metrics to all loggers, and to checkpoints and early stopping."""
        if not self.trainer.sanity_checking:
            self.validation = {name: torch.tensor(value).item() for name, value in metrics.items()}  # as Lightning keeps them
            self.log_dict(metrics, logger=False)
            self.publish(metrics)

    # --- checkpoints ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counts and what rebuilds the model without its data; refuse to store losses that are not finite."""
        if self._losses:
            finite(self._losses, self.counts.batches, self.counts.updates)
        checkpoint["condgen"] = self.recipe
        if self.privacy:
            checkpoint["privacy"] = self.privacy.state()
        checkpoint["counts"] = asdict(self.counts)
        checkpoint["validation"] = self.validation
        checkpoint["latest"] = self.latest
        checkpoint["losses"] = of_all(self._losses, self.all_gather, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the counts, and let Lightning's loops do so too."""
        self.counts = Counts(**checkpoint["counts"])
        if self.privacy:
            self.privacy.stored = checkpoint["privacy"]
        self.latest = checkpoint.get("latest", {})
        self.validation = checkpoint.get("validation", {})  # condgen 0.1 did not keep them
        self._losses = of_one(checkpoint["losses"], self.global_rank, self.trainer.world_size)
        checkpoint["loops"]["fit_loop"] = self.counts.loops(checkpoint["loops"]["fit_loop"])


def check_optimizer(key: str, make: MakeOptimizer) -> MakeOptimizer:
    """Try an optimizer's settings on a dummy, so that a negative rate is refused before training starts.

    Raises:
        CondgenError: names the key and what the optimizer says.
    """
    try:
        make([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError, RuntimeError) as error:
        raise CondgenError(f"model.{key}: {error}.") from error
    return make
