"""What every family keeps: the sampling contract, the record of its losses, the checks of its parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.randomness import generator as keyed_generator
from condgen.randomness import mix, shard
from condgen.spaces import Space
from condgen.training.sampling import check_knob, truncated

BLOCK = 250
"""Samples drawn at a time. Each block has a stream of its own, so neither memory nor processes decide what is drawn."""

Batch = tuple[Tensor, Tensor]
MakeOptimizer = Callable[..., torch.optim.Optimizer]


class GenerativeModel(L.LightningModule, ABC):
    """A conditional generator. The outside world uses `sample`, `space` and `condition` and nothing else.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        expects: the shape that the model was published for; other data are refused. None takes any.
        seed: decides every random number of the training, together with epoch and batch.
    """

    objective: str | None = None
    """Validation metric that decides the best checkpoint (smaller is better); None: the newest is the best."""
    KNOBS: tuple[str, ...] = ("truncation", "temperature")
    """What `tune` can set."""

    def __init__(self, space: Space, condition: Condition, expects: Sequence[int] | None, seed: int):
        super().__init__()
        if expects is not None and tuple(expects) != space.shape:
            wanted, given = ("x".join(map(str, shape)) for shape in (expects, space.shape))
            if len(expects) != len(space.shape):
                kind = type(space).__name__.lower()
                raise CondgenError(
                    f"This model was published for {wanted} images and the data give {kind}: set model=gan_points."
                )
            raise CondgenError(
                f"This model was published for {wanted} images and the data give {given}: set data.image_size={expects[-1]} "
                f"data.channels={expects[0]}, or model.expects=null to train it on {given}."
            )
        self.space = space
        self.condition = condition
        self.seed = seed
        self.code_variance: Tensor | None = None  # (latent,), of an encoder's codes over the validation part
        self.planning = False  # how long the training will be is still being measured
        self.averaged = True  # sample from averaged weights, if there are any
        self.batches_per_update = 1  # that pass between two updates that count
        self.usual: dict[str, Any] = {}  # how samples are drawn, as far as there is a choice
        self.knobs: dict[str, Any] = {}  # how they are drawn now; figures name it
        self.recipe: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self._window: list[dict[str, Tensor]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """Let Lightning's note of the running hook, forty times a step, pass by torch's slow bookkeeping."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, ...) on the CPU with ``generator``."""

    @abstractmethod
    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Turn latents (B, ...) into samples (B, *shape), one for each encoded condition (B, ...)."""

    @property
    def density(self) -> str | None:
        """What `likelihood` is of: "levels", the 256 of each pixel, or "bits", pixels drawn black or white; None: nothing."""
        return None

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return how likely real samples are, where there is a `density`, in eval mode and without gradients.

        Args:
            x: samples (B, *shape), as in a batch.
            condition: encoded conditions (B, ...).
            stream: a CPU generator for whatever is drawn.
            draws: how many times noise is drawn for each sample, where a bound is tightened by it.

        Returns:
            Values (B,) by the names in `condgen.metrics.catalogue.LIKELIHOODS`: nats, or bits per dimension.
        """
        raise NotImplementedError(f"A {type(self).__name__} has no likelihood.")

    @property
    def weights(self) -> str:
        """Which weights `sample` uses: "ema", averages over the training, or "raw", those of the last step."""
        return "raw"

    def draw(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Generate one sample (B, *shape) for each encoded condition (B, ...), with noise from the CPU ``generator``."""
        z = self.prior(len(condition), generator)
        if "truncation" in self.knobs:
            z = truncated(z, self.knobs["truncation"])
        samples = self.decode(z.to(self.device) * self.knobs.get("temperature", 1.0), condition)
        return self.condition.finish(samples, condition)

    def tune(self, **knobs: float | str | None) -> None:
        """Set how samples are drawn from now on; what is None is as usual.

        Args:
            truncation: bound of the normal noise, in standard deviations: smaller gives better samples that differ less.
            temperature: factor of the noise.
            standing: number of batches of 250 samples over which batch norm's statistics are measured anew (GANs).
            guidance: how far beyond what it would draw unasked the model goes towards what is asked for; 1: no further.
            steps: number of steps in which a sample is made.
            sampler: name of the method that makes them.

        Raises:
            CondgenError: this family has no such knob, or the value cannot be.
        """
        given = {name: value for name, value in knobs.items() if value is not None}
        for name in given:
            if name not in self.KNOBS:
                raise CondgenError(f"A {type(self).__name__} has no {name} when it is sampled: it has {', '.join(self.KNOBS)}.")
        chosen = self.usual | given
        for name, value in chosen.items():
            check_knob(name, value)
        self.check_knobs(chosen)
        self.knobs = {name: value for name, value in chosen.items() if (name, value) != ("guidance", 1)}  # that is none

    def check_knobs(self, knobs: Mapping[str, Any]) -> None:
        """Refuse values that this model cannot be sampled with; raises CondgenError."""

    def sample(
        self, condition: Any = None, count: int = 1, *, seed: int = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Generate ``count`` samples for each condition, in eval mode and with the averaged weights where there are any.

        Args:
            condition: a class index or name, a text like ``"0-9"`` or ``"digit=3,colour=red"``, a list of these, or encoded
                conditions (N, ...); None asks for every class (for nothing, where the model is unconditional).
            count: samples for each condition.
            seed: the same seed gives the same samples, whatever the number of processes.
            generator: a CPU generator that is used instead of ``seed``.

        Returns:
            (N * count, *space.shape) on the model's device; those of one condition lie together.
        """
        blocks = torch.split(self.asked(condition, count, seed), BLOCK)
        return torch.cat([self.sample_block(i, block, seed, generator) for i, block in enumerate(blocks)])

    def asked(self, condition: Any = None, count: int = 1, seed: int = 0) -> Tensor:
        """Return the encoded conditions (N * count, ...) for which `sample` draws: what a user leaves open is drawn too."""
        if count < 1:
            raise CondgenError(f"count must be at least 1, not {count}.")
        wanted = self.condition.ask(None) if condition is None else self.condition.encode(condition)
        return self.condition.fill(wanted.repeat_interleave(count, dim=0), keyed_generator(seed, "condition"))

    @torch.inference_mode()
    def sample_block(self, index: int, condition: Tensor, seed: int, generator: torch.Generator | None = None) -> Tensor:
        """Generate block ``index`` of what `sample` would, for its encoded conditions (at most `BLOCK`, ...)."""
        with evaluating(self):
            return self.draw(condition.to(self.device), generator or keyed_generator(seed, "sample", index))

    def vitals(self) -> dict[str, Tensor]:
        """Return scalars of the last update by which `condgen.callbacks.diagnosis` judges it; none by default."""
        return {}

    # --- randomness of the training: a function of (seed, purpose, epoch, batch), of nothing else ---

    def rows(self, draw: Callable[[int, torch.Generator], Tensor], size: int, purpose: str, batch: int) -> Tensor:
        """Draw for the whole batch of all processes and return this process's ``size`` rows, on its device."""
        stream = keyed_generator(self.seed, purpose, self.current_epoch, batch)
        world = self.trainer.world_size
        return shard(draw(size * world, stream), self.global_rank, world).to(self.device, non_blocking=True)

    def fixed_rows(self, draw: Callable[[int, torch.Generator], Tensor], size: int, purpose: str, batch: int) -> Tensor:
        """Draw for a whole validation batch and return this process's ``size`` rows, the same in every epoch."""
        # The batch is shared by all processes (`BatchLoader`), perhaps unevenly: one validates as several do.
        total = self.trainer.strategy.reduce(torch.tensor(float(size), device=self.device), reduce_op="sum")
        drawn = draw(int(total), keyed_generator(self.seed, purpose, batch))
        return drawn.tensor_split(self.trainer.world_size)[self.global_rank].to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what layers draw by themselves (dropout), so that a resumed run draws it again."""
        seed = mix(self.seed, "layers", self.current_epoch, batch_idx, self.global_rank)
        # torch.manual_seed would also queue a seed for every absent device, at a hundred times the cost.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``value`` over all processes."""
        mean: Tensor = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean

    def progress(self) -> float:
        """Return which share of the training lies behind, in [0, 1]; 0 while its length is still being planned."""
        trainer = self.trainer
        ends = []  # in batches
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            ends.append(trainer.max_epochs * trainer.num_training_batches)
        if trainer.max_steps >= 0:
            ends.append(trainer.max_steps * self.batches_per_update * trainer.accumulate_grad_batches)
        if self.planning:
            return 0.0
        if not ends:
            raise CondgenError("model.decay needs to know the end: set trainer.max_epochs or trainer.max_steps.")
        return min(1.0, trainer.fit_loop.total_batch_idx / min(ends))

    # --- the record of losses ---

    def record(self, **values: Tensor) -> None:
        """Keep this batch's scalars; their means reach the loggers every ``log_every_n_steps`` batches, without waiting."""
        self._window.append({name: value.detach() for name, value in values.items()})
        if len(self._window) >= self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.flush(self.global_step + self.automatic_optimization)  # Lightning counts its update after the batch

    def flush(self, step: int | None = None) -> None:
        """Log the means of the recorded batches, over all processes, at ``step`` (None: the present one), and forget them.

        Raises:
            CondgenError: one of them is not finite; names it and its step.
        """
        if self._window:
            curves = self.recorded()
            self._window = []
            means = self.trainer.strategy.reduce(torch.stack([curve.mean() for curve in curves.values()]), reduce_op="mean")
            self.latest = dict(zip(curves, means.tolist(), strict=True))
            self.publish({f"train/{name}": value for name, value in self.latest.items()}, step)

    def recorded(self) -> dict[str, Tensor]:
        """Return what was recorded under each name, float64 (times,); raises CondgenError if one is not finite."""
        keys = [(row, name) for row, values in enumerate(self._window) for name in values]
        table = torch.stack([self._window[row][name].to(self.device) for row, name in keys]).double()
        finite = table.isfinite().tolist()  # the one wait for the device
        if not all(finite):
            row, name = keys[finite.index(False)]
            batch = self.trainer.fit_loop.total_batch_idx + 1 - len(self._window) + row
            raise CondgenError(
                f"Training stopped: {name} became {self._window[row][name].item()} in batch {batch} (update "
                f"{self.global_step}); the last good checkpoint is kept, try a smaller learning rate."
            )
        names = [name for _, name in keys]
        return {name: table[[i for i, other in enumerate(names) if other == name]] for name in dict.fromkeys(names)}

    def publish(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send scalars to all loggers; their step axis is the number of updates (of the generator, for a GAN)."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step if step is None else step)

    def on_train_epoch_end(self) -> None:
        """An epoch ends with its last losses logged."""
        self.flush()

    # --- checkpoints ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds the model without its data; refuse to store a model whose losses are not finite."""
        if self._window:
            self.recorded()
        checkpoint["condgen"] = self.recipe
        checkpoint["window"] = [{name: value.cpu() for name, value in row.items()} for row in self._window]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the record where it was left."""
        self._window = checkpoint["window"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and each back into its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
