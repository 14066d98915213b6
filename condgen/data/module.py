"""The one LightningDataModule: any source, split and conditioned, in batches ``(x, condition)``."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from condgen.augment.images import Augmentation, compose
from condgen.conditions import Condition
from condgen.conditions.base import of_data
from condgen.data.canaries import with_canaries
from condgen.data.imbalance import Imbalance, kept_counts, told
from condgen.data.loader import BatchLoader
from condgen.data.prefetch import spare_workers
from condgen.data.prepare import choose
from condgen.data.split import Split, parts, require_every_class, thin
from condgen.data.tables import Chosen, Decoding, Part, Source, Table, usable
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.randomness import generator
from condgen.spaces import Space, floating
from condgen.types import BelowOne, Count, Name, PositiveInt, Says, Share


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is known once the source is loaded."""

    condition: Condition
    class_names: list[str]
    space: Space
    train: Part
    val: Part
    test: Part | None
    canaries: tuple[Part, Part] | None = None


Channels = Annotated[Literal[1, 3], Says("1 (grey), 3 (colour)")]


class DataModule(LightningDataModule):
    """A data set, ready for training. Nothing is loaded before `prepare`, `setup` or the first property that needs it.

    Args:
        source: where the images come from.
        condition: makes the condition by which labels and attributes are encoded, from what it names of ``classes``,
            ``fields``, ``shape`` and so on, see `Condition`.
        batch_size: images in a training step, summed over all processes.
        image_size: side in pixels to resize to, after a centre crop to a square; None: as is.
        channels: 1 (grey) or 3 (colour); None: as is.
        split: a number keeps the set's own test part and cuts so many validation images from its train part; fractions
            ``[train, val, test]`` split all images anew. Both are stratified.
        classes: names or indices to keep, relabelled 0..K-1 in this order; None: all.
        imbalance: which training images to keep: ``{class: kept}``, a fraction up to 1 or a whole number of images from 2; or
            ``longtail:100``, exponentially fewer from the first class to the last.
        balance: how far training batches even out the classes: 0 draws them as they are, 1 all alike, see `balanced_order`.
        augment: one augmentation of training images, or a list: condgen's own, or transforms of torchvision.transforms.v2 and
            of albumentations, see `condgen.augment.libraries`.
        vicinity: standard deviation of what is added to each training sample's conditions that are numbers, where their range
            has length 2: a sample stands for all numbers near its own.
        canaries: images of noise, each among the training images with probability 1/2, by which `condgen audit` bounds epsilon
            from below, see `condgen.data.canaries`.
        drop_last: leave out an incomplete last training batch.
        on_device: keep the uint8 images on the accelerator; "auto": if they take at most a quarter of its free memory.
        memory_share: share of physical memory above which images are mapped from the cache folder instead of loaded.
        workers: processes that decode images which are not in memory, and that augment them where ``augment`` is another
            library's; 0: the one that trains; "auto": see `spare_workers`.
        prefetch: batches that each of them is ahead.
        split_seed: decides the split, the imbalance and nothing else: runs with different seeds share their parts.
        seed: decides order and augmentation.

    Raises:
        CondgenError: a value that cannot work; the sentence names its key.
    """

    def __init__(
        self,
        source: Source,
        condition: Callable[..., Condition],
        *,
        batch_size: PositiveInt = 64,
        image_size: PositiveInt | None = None,
        channels: Channels | None = None,
        split: Split = (0.7, 0.15, 0.15),
        classes: Sequence[Name] | None = None,
        imbalance: Imbalance | None = None,
        balance: Share = 0.0,
        augment: Augmentation | Sequence[Any] | Callable[..., Any] | None = None,
        vicinity: BelowOne = 0.0,
        canaries: Count = 0,
        drop_last: bool = True,
        on_device: bool | Literal["auto"] = "auto",
        memory_share: Share = 0.25,
        workers: Count | Literal["auto"] = "auto",
        prefetch: PositiveInt = 4,
        split_seed: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.source = source
        self.make_condition = condition
        self.batch_size = batch_size
        self.decoding = Decoding(image_size, channels, memory_share)
        self.split = split if isinstance(split, int) else list(split)
        self.classes = None if classes is None else list(classes)
        self.imbalance = imbalance
        self.balance = balance
        self.augment = compose(augment)
        self.vicinity = vicinity
        self._canaries = canaries
        self.drop_last = drop_last
        self.on_device = on_device
        self.workers, self.prefetch = workers, prefetch
        self.split_seed = split_seed
        self.seed = seed
        self.sampled: Callable[[int, float, int, int], Tensor] | None = None
        """Draws which training images are in a batch, from their number, a share, epoch and batch; None: each once."""
        self._placed: dict[tuple[Table, torch.device], Tensor] = {}
        self._loaders: list[BatchLoader] = []
        if not isinstance(self.split, int) and abs(sum(self.split) - 1) > 1e-6:
            raise CondgenError(f"data.split={self.split} must be a number of images, or fractions [train,val,test] of sum 1.")

    def at(self, size: int | None, channels: int | None) -> "DataModule":
        """Return the same data, split alike, with images of another side and number of channels; None: as they are."""
        if Decoding(size, channels, self.decoding.memory_share) == self.decoding:
            return self
        other = copy(self)
        other.decoding = Decoding(size, channels, self.decoding.memory_share)
        other._placed, other._loaders = {}, []
        other.__dict__.pop("_prepared", None)
        return other

    @property
    def space(self) -> Space:
        """What a sample is; of images also their mean and deviation over the training part."""
        return self._prepared.space

    @property
    def condition(self) -> Condition:
        """What labels and attributes are encoded by."""
        return self._prepared.condition

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that images have, also where the condition asks for something else; empty for none."""
        return self._prepared.class_names

    @property
    def train(self) -> Part:
        """Images to train on."""
        return self._prepared.train

    @property
    def val(self) -> Part:
        """Images that decide what is chosen during training."""
        return self._prepared.val

    @property
    def test(self) -> Part:
        """Images for the final figures; raises CondgenError if the set has none."""
        if self._prepared.test is None:
            raise CondgenError("data.split leaves no test part: give fractions with one, such as data.split=[0.7,0.15,0.15].")
        return self._prepared.test

    @property
    def canaries(self) -> tuple[Part, Part] | None:
        """Canaries that are among the training images, and those that are not; None where none were asked for."""
        return self._prepared.canaries

    @property
    def has_test(self) -> bool:
        """Whether there are images for the final figures."""
        return self._prepared.test is not None

    def told(self) -> str:
        """Say how many training images of each class there are, and how they are drawn."""
        drawn = f"; drawn with data.balance={self.balance:g}" if self.balance else ""
        kept = f", kept by data.imbalance={self.imbalance}" if self.imbalance else ""
        return f"Training images of each class{kept}: {told(self.train.labels, self.class_names)}{drawn}."

    def prepare(self) -> None:
        """Load and split everything, once; raises CondgenError if the source or an argument does not allow it."""
        _ = self._prepared

    def setup(self, stage: str | None = None) -> None:
        """Prepare, on each process."""
        self.prepare()

    @cached_property
    def _prepared(self) -> Prepared:
        tables = self.source.load(self.decoding)
        classes, relabel = choose(tables.classes, self.classes)
        train, val, test = parts(tables, relabel, self.split, self.decoding, self.split_seed)
        shape = tuple(train.table.images.shape[1:])
        facts = {"classes": classes, "fields": tables.fields, "words": tables.words, "captions": train.captions, "shape": shape}
        facts["space"] = train.table.made
        condition = of_data(self.make_condition, **facts)
        if self.vicinity:  # refused here, where there are no numbers
            condition.near(*torch.zeros(2, 1, condition.width))
        for part, title in ((train, "the train part"), (val, "the validation part"), (test, "the test part")):
            if part is not None:
                require_every_class(part.labels, classes, title)
        kept = kept_counts(self.imbalance, classes, torch.bincount(train.labels, minlength=max(1, len(classes))))
        if self.balance and len(classes) < 2:
            raise CondgenError(f"data.balance={self.balance} needs data with classes, and these have none: set it to 0.")
        if self.balance and isinstance(train.table.images, Undecoded):
            raise CondgenError("data.balance draws from images in memory, and shards are read in their own order: set it to 0.")
        train = Part(train.table, train.rows[thin(train.labels, kept, (self.split_seed, "imbalance"))])
        train, val, test = usable(train), usable(val), test and usable(test)
        canaries: tuple[Part, Part] | None = None
        if self._canaries:
            train, *found = with_canaries(train, self._canaries, len(classes), self.split_seed)
            canaries = found[0], found[1]
        if self.drop_last and len(train) < self.batch_size:
            raise CondgenError(
                f"data.batch_size={self.batch_size} is more than the {len(train)} training images: "
                "make it smaller, or set data.drop_last=false."
            )
        space = train.table.space(train.rows)
        if self.augment is not None and len(space.shape) != 3:
            raise CondgenError("data.augment changes images, and these samples are none: set it to null.")
        return Prepared(condition, classes, space, train, val, test, canaries)

    def train_dataloader(self) -> BatchLoader:
        """Return the loader that training goes through, from where the trainer stands."""
        trainer = self.trainer
        world = trainer.world_size if trainer else 1
        overfits = bool(trainer and trainer.overfit_batches)  # type: ignore[attr-defined]  # to the same few batches
        if not self.drop_last and len(self.train) % self.batch_size % world:
            raise CondgenError(f"data.drop_last=false leaves a last batch that {world} processes cannot share: set it true.")
        return self._loader(
            self.train,
            shuffle=not overfits,
            drop_last=self.drop_last,
            augment=self.augment,
            vicinity=self.vicinity,
            partly=True,
            balance=self.balance,
            labels=self.train.labels if self.balance else None,
            position=lambda: trainer.lightning_module.position if trainer else (0, 0),
            sampled=partial(self.sampled, len(self.train), self.batch_size / len(self.train)) if self.sampled else None,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return a loader that goes through the validation part once, in order."""
        return self.ordered(self.val)

    def test_dataloader(self) -> BatchLoader:
        """Return a loader that goes through the test part once, in order. Nothing else touches it."""
        return self.ordered(self.test)

    def ordered(self, part: Part) -> BatchLoader:
        """Return a loader that goes through ``part`` once, in order and unaugmented, from its start."""
        return self._loader(part)

    def encode(self, part: Part, rows: Tensor, condition: Condition | None = None) -> Tensor:
        """Return the conditions (N, ...) of ``rows`` (N,) of ``part``, always the same; encoded by another one if given."""
        condition = condition or self.condition
        places = part.rows[rows]
        encoded = self._said(part.table, places, condition)
        if condition.map_shape is None:
            return encoded
        u = torch.rand(len(part), condition.draws, generator=generator(self.split_seed, "condition"))[rows]
        return condition.complete(encoded, floating(part.table.images[places]), u)

    def teardown(self, stage: str | None = None) -> None:
        """End the workers of all loaders."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def _loader(self, part: Part, **options: Any) -> BatchLoader:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        world = trainer.world_size if trainer else 1
        loader = BatchLoader(
            self._place(part.table, device),
            self._conditions(part.table),
            self.batch_size,
            condition=self.condition,
            rows=part.rows,
            seed=self.seed,
            device=device,
            rank=trainer.global_rank if trainer else 0,
            world=world,
            workers=spare_workers(device, world) if self.workers == "auto" else self.workers,
            prefetch=self.prefetch,
            **options,
        )
        if loader.has_workers:
            self._loaders.append(loader)
        return loader

    def _conditions(self, table: Table) -> Tensor | Callable[[Tensor], Tensor]:
        """Return the encoded conditions; of a set that would not fit into memory what encodes them."""
        if isinstance(table.images, Tensor):
            return self.condition.from_rows(table.labels, table.values, table.captions)
        return lambda rows: self._said(table, rows, self.condition)

    def _said(self, table: Table, rows: Tensor, condition: Condition) -> Tensor:
        """Return what a table says of some rows (B,), encoded."""
        values = None if table.values is None else table.values[rows]
        return condition.from_rows(table.labels[rows], values, Chosen.of([table.captions], [rows]))

    def _place(self, table: Table, device: torch.device) -> Tensor | Undecoded:
        """Return the images, moved to the device once if they are to live there."""
        if not isinstance(table.images, Tensor):
            return table.images
        wanted = self.on_device
        if wanted == "auto":
            wanted = device.type == "cuda" and table.images.nbytes <= torch.cuda.mem_get_info(device)[0] / 4
        if not wanted:
            return table.images
        if (table, device) not in self._placed:
            self._placed[table, device] = table.images.to(device)
        return self._placed[table, device]
