"""Pictures of the run, and sounds: real beside generated samples, always from the same noise."""

from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from condgen.audio import Sound, one_after_another, to_wav
from condgen.callbacks.base import Callback, epochs_of
from condgen.files import replacing, save_png
from condgen.run.loggers import play, show
from condgen.spaces import Viewed, floating
from condgen.training.base import Training
from condgen.types import PositiveInt

GAP = 12  # white pixels between the real half and the generated one
PLAYED = 8
"""Sounds in the wav of a model that starts from images."""


class SampleGrid(Callback):
    """At the end of epochs, or every so many updates, draw ``samples/step-00001000.png`` and TensorBoard's ``samples``.

    Left real samples of the validation part, right generated ones, as their space lays them out: of images a row of eight for
    each condition, 8 x 8 where there is nothing to ask for; of points a colour for each condition. Where samples start from
    images, these stand on the left, what was made of them in the middle, and the real samples on the right. Of sounds there is
    a wav beside the picture, with one of each condition, or of the first ones that sounds start from.

    Args:
        every_epochs: draw after every so many epochs, and at the end of the run; None: not then.
        every_steps: draw after every so many updates (of the generator, for a GAN); None: not then.
        seed: decides the noise, which is the same in each picture.
    """

    def __init__(self, every_epochs: PositiveInt | None = 1, every_steps: PositiveInt | None = None, seed: int = 0):
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self.seed = seed
        self._real: Tensor | None = None
        self._drawn_at = -1

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Draw within an epoch, if it is time."""
        if self.every_steps and update % self.every_steps == 0 and update != self._drawn_at:
            self.show(trainer, model)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, if it is time."""
        if self.every_epochs and (epochs_of(pl_module) + 1) % self.every_epochs == 0:
            self.show(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last picture, unless it is drawn."""
        if trainer.global_step > self._drawn_at:
            self.show(trainer, pl_module)

    def show(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Draw the picture and hand it to the run directory and to the loggers that take pictures."""
        self._drawn_at = trainer.global_step
        if not trainer.is_global_zero:
            return
        assert isinstance(model, Training)
        panels = translations(trainer, model, self.seed) if model.condition.map_shape else self.beside_real(trainer, model)
        gap = torch.full((3, panels[0].shape[1], GAP), 255, dtype=torch.uint8)
        picture = torch.cat([part for panel in panels for part in (gap, panel)][1:], dim=2)
        save_png(Path(trainer.default_root_dir) / "samples" / f"step-{trainer.global_step:08d}.png", picture)
        show(trainer.loggers, "samples", picture, trainer.global_step)
        if isinstance(model.space, Sound):
            self.play(trainer, model, model.space)

    def play(self, trainer: L.Trainer, model: Training, space: Sound) -> None:
        """Write a sound of each condition, one after another, and hand them to the loggers that take sounds."""
        asked = model.condition.every() if model.condition.image is None else starts_of(trainer, PLAYED)
        samples = model.eval_generator.sample(asked, seed=self.seed)
        sound = one_after_another(space.waves(samples.cpu()), space.rate)
        with replacing(Path(trainer.default_root_dir) / "samples" / f"step-{trainer.global_step:08d}.wav") as temporary:
            temporary.write_bytes(to_wav(sound, space.rate))
        play(trainer.loggers, "samples", sound, space.rate, trainer.global_step)

    def beside_real(self, trainer: L.Trainer, model: Training) -> list[Tensor]:
        """Return real samples of each condition, and generated ones."""
        every = model.condition.every()
        count, columns = model.space.layout(len(every))
        if self._real is None:
            self._real = model.space.grid(real_samples(trainer, every, count), columns)
        return [self._real, model.space.grid(model.eval_generator.sample(every, count, seed=self.seed), columns)]


def translations(trainer: L.Trainer, model: Training, seed: int) -> list[Tensor]:
    """Return what the model starts from, what it makes of it, and the real samples: the first ones of the validation part."""
    data, space = trainer.datamodule, model.space  # type: ignore[attr-defined]
    assert isinstance(space, Viewed)
    count, columns = space.layout(1)
    conditions = starts_of(trainer, count)
    made = model.eval_generator.sample(conditions, seed=seed)
    real = floating(data.val.table.images[data.val.rows[: len(conditions)]])
    starts = space.view.grid(model.generator.starts(conditions), columns)
    return [starts, *(space.grid(samples, columns) for samples in (made, real))]


def starts_of(trainer: L.Trainer, count: int) -> Tensor:
    """Return what samples start from, encoded: of the first ``count`` samples of the validation part, or fewer."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    found: Tensor = data.encode(data.val, torch.arange(min(count, len(data.val))))
    return found


def real_samples(trainer: L.Trainer, every: Tensor, count: int) -> Tensor:
    """Return ``count`` validation samples for each of the conditions ``every``; where there are fewer, they repeat.

    What a condition leaves open may be anything. Where there is none, as of codes that no real sample has and of numbers that
    none has exactly, the nearest stand there.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    conditions = data.encode(data.val, torch.arange(len(data.val)))
    if conditions.dim() > 1:  # of several captions of a sample the first
        conditions = conditions[:, : every.shape[1]]
    chosen = []
    for condition in every:
        gaps = (conditions - condition).nan_to_num(0.0).abs() if conditions.is_floating_point() else conditions != condition
        distance = gaps.reshape(len(conditions), -1).sum(1)
        matches = (distance == 0).nonzero().squeeze(1)
        if len(matches) == 0:
            matches = distance.argsort(stable=True)[:count]
        chosen.append(matches[torch.arange(count) % len(matches)])
    return floating(data.val.table.images[data.val.rows[torch.cat(chosen)]])
