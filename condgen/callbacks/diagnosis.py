"""Diagnosis: what usually goes wrong in a run, as curves and, once, in plain words.

It watches what a training offers: ``statistics()``, scalars of its last update, and ``code_variance``, of the codes over the
validation part. It takes numbers that lie there already, draws nothing at random and changes no weight.
"""

import logging
import math
from typing import Any

import lightning as L
import torch
from tqdm import tqdm

from condgen.callbacks.base import Callback
from condgen.metrics.record import Record
from condgen.training.base import Training
from condgen.types import Count, NonNegative, PositiveInt, Share

log = logging.getLogger("condgen")

WARNINGS = {
    "saturation": (
        "the discriminator has won: for {updates:,} updates it has hardly ever taken a generated sample for real or a real one "
        "for generated, and the generator learns next to nothing from that. Give the discriminator a smaller learning rate or "
        "dropout, or the generator a larger learning rate."
    ),
    "constant": (
        "the discriminator says the same of every sample, and has for {updates:,} updates, so that the generator has nothing "
        "to learn from. Begin anew with a smaller learning rate or less regularization of the discriminator."
    ),
    "posterior_collapse": (
        "posterior collapse: {active} of {latent} latent units depend on the sample, and the decoder does without the others. "
        "Try a smaller model.beta, a model.kl_warmup of some thousand updates, or a smaller model.generator.latent."
    ),
    "class_collapse": (
        "collapse of {collapsed} of {classes} classes: in the worst, {name}, samples differ from each other by {ratio:.0%} of "
        "what real ones do. Try smaller learning rates, or an earlier checkpoint."
    ),
    "ignored_condition": (
        "the condition seems to be ignored: samples get better (FID {first:.4g} to {last:.4g}), but {accuracy:.0%} of them are "
        "of the class asked for, where guessing gives {chance:.0%}. Look at how the condition enters the networks."
    ),
}
"""What is said, by kind; each kind once in a run."""


class Diagnosis(Callback):
    """Curves under ``diagnosis/``, and one warning of each kind for each run.

    Of a GAN, every ``trainer.log_every_n_steps`` updates, of that update's batch: ``accuracy_real`` and ``accuracy_fake``, the
    shares of real and of generated samples that D takes for what they are; ``relative_loss_d``, its loss over that of a D that
    cannot tell; ``logit_deviation``, its logits' standard deviation; ``gradient_norm_g`` and ``gradient_norm_d``, over all
    parameters, and ``gradient_ratio``, G's over D's. The gradients have no line: their healthy range is the networks' own.
    Of a VAE, at each validation: ``active_units``. Of each evaluation: ``least_class_diversity``, the smallest of the classes'
    ratios. Label accuracy and FID have their curves under ``quality/``.

    Args:
        saturation_accuracy: D wins where both its accuracies reach this,
        saturation_loss: and its loss is at most this share of that of a D that cannot tell,
        constant_deviation: D says the same of everything where its logits deviate less than this;
        unit_variance: a latent unit is active where the variance of its posterior mean over the validation part is more than
            this (Burda et al. 2016, section 4.4),
        active_share: and the posterior has collapsed where a smaller share of the units is active, or none.
        patience: in updates. D is warned of after it has stood like that for so long without a break, since at the start a
            strong one is normal; the posterior is not judged earlier either.
        class_diversity: a class has collapsed where its diversity is under this share of that of real samples.
        above_chance: a condition is ignored where label accuracy has come less than this share of the way from chance, 1 / K,
            to 1,
        fid_fall: while FID has fallen by at least this share.
        evaluations: how many of them in a row must find the same before it is warned of.
    """

    def __init__(
        self,
        saturation_accuracy: Share = 0.99,
        saturation_loss: NonNegative = 0.01,
        constant_deviation: NonNegative = 1e-3,
        unit_variance: NonNegative = 0.01,
        active_share: Share = 0.1,
        patience: Count = 1000,
        class_diversity: NonNegative = 0.1,
        above_chance: Share = 0.1,
        fid_fall: Share = 0.1,
        evaluations: PositiveInt = 3,
    ):
        self.saturation_accuracy, self.saturation_loss = saturation_accuracy, saturation_loss
        self.constant_deviation = constant_deviation
        self.unit_variance, self.active_share = unit_variance, active_share
        self.patience = patience
        self.class_diversity, self.above_chance, self.fid_fall = class_diversity, above_chance, fid_fall
        self.evaluations = evaluations
        self._step = 0
        self._warned: list[str] = []  # the kinds
        self._since: dict[str, int] = {}  # the update, or the evaluation, since when something has held without a break
        self._evaluation, self._evaluated_at = 0, -1
        self._fid: dict[str, float] = {}  # by protocol, where label accuracy is near chance: FID when it was found so first

    def state_dict(self) -> dict[str, Any]:
        """What was said, and what has been going on since when."""
        evaluation = self._evaluation, self._evaluated_at
        return {"warned": self._warned, "since": self._since, "evaluation": evaluation, "fid": self._fid}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on watching, without saying anything twice."""
        self._warned, self._since = state_dict["warned"], state_dict["since"]
        (self._evaluation, self._evaluated_at), self._fid = state_dict["evaluation"], state_dict["fid"]

    # --- in training ---

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run stands."""
        super().on_train_start(trainer, pl_module)
        self._step = self._update

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Take the statistics of every so many updates: what they are made of still lies there, no other step pays for them."""
        self._step = update
        if update % max(1, trainer.log_every_n_steps):  # type: ignore[attr-defined]
            return
        if scalars := model.statistics():
            # Gradients are the same in all processes, the rest become means over them.
            means = trainer.strategy.reduce(torch.stack(list(scalars.values())), reduce_op="mean")
            values = dict(zip(scalars, means.tolist(), strict=True))
            publish(model, values)
            self.look_at_players(trainer, values)

    def look_at_players(self, trainer: L.Trainer, statistics: dict[str, float]) -> None:
        """Warn of a discriminator that has won, and of one that says the same of everything."""
        accuracy = min(statistics.get("accuracy_real", 0.0), statistics.get("accuracy_fake", 0.0))
        certain = statistics.get("relative_loss_d", 1.0) <= self.saturation_loss
        won = accuracy >= self.saturation_accuracy and certain
        constant = statistics.get("logit_deviation", 1.0) < self.constant_deviation
        for kind, holds in (("saturation", won), ("constant", constant)):
            if self.lasts(kind, holds, self._step, self.patience):
                self.warn(trainer, kind, updates=self._step - self._since[kind])

    # --- in validation ---

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the active units and warn of posterior collapse."""
        assert isinstance(pl_module, Training)
        variance = pl_module.code_variance
        if variance is None or trainer.sanity_checking:
            return
        active, latent = int((variance > self.unit_variance).sum()), len(variance)
        publish(pl_module, {"active_units": float(active)})
        if active < max(1, self.active_share * latent) and trainer.global_step >= self.patience:
            self.warn(trainer, "posterior_collapse", active=active, latent=latent)

    # --- in evaluation ---

    def on_evaluation(self, trainer: L.Trainer, model: Training, record: Record) -> None:
        """Look at a measurement; the callback `Evaluation` calls this after each. Two of the same weights count as one."""
        self._evaluation += trainer.global_step != self._evaluated_at
        self._evaluated_at = trainer.global_step
        self.look_at_classes(trainer, model, record)
        self.look_at_condition(trainer, record)

    def look_at_classes(self, trainer: L.Trainer, model: Training, record: Record) -> None:
        """Warn of classes whose samples hardly differ from each other."""
        ratios = record.per_class.get("diversity", [])
        known = [ratio for ratio in ratios if not math.isnan(ratio)]  # not where a class has too few samples
        if not known:
            return
        publish(model, {"least_class_diversity": min(known)})
        collapsed = [
            (ratio, name)
            for name, ratio in zip(record.classes, ratios, strict=True)
            if self.lasts(f"class {name}", ratio < self.class_diversity, self._evaluation, self.evaluations - 1)
        ]
        if collapsed:
            ratio, name = min(collapsed)
            self.warn(trainer, "class_collapse", collapsed=len(collapsed), classes=len(ratios), name=name, ratio=ratio)

    def look_at_condition(self, trainer: L.Trainer, record: Record) -> None:
        """Warn where samples get better without becoming what was asked for; FIDs are compared within one protocol."""
        figures, protocol, classes = record.figures, record.protocol.name, len(record.classes)
        if classes < 2 or not {"label_accuracy", "fid"} <= figures.keys():
            return
        kind, chance = f"condition under {protocol}", 1 / classes
        blind = figures["label_accuracy"] < chance + self.above_chance * (1 - chance)
        lasts = self.lasts(kind, blind, self._evaluation, self.evaluations - 1)
        if not blind:
            self._fid.pop(protocol, None)
            return
        first, last = self._fid.setdefault(protocol, figures["fid"]), figures["fid"]
        if lasts and last <= (1 - self.fid_fall) * first:
            self.warn(trainer, "ignored_condition", first=first, last=last, accuracy=figures["label_accuracy"], chance=chance)

    # --- how it speaks ---

    def lasts(self, kind: str, holds: bool, now: int, least: int) -> bool:
        """Note whether ``kind`` holds ``now``; return whether it has, without a break, for ``least`` updates or evaluations."""
        if not holds:
            self._since.pop(kind, None)
            return False
        return now - self._since.setdefault(kind, now) >= least

    def warn(self, trainer: L.Trainer, kind: str, **details: Any) -> None:
        """Say it, unless it was said; the progress bar makes room for it."""
        if kind in self._warned:
            return
        self._warned.append(kind)
        if trainer.is_global_zero:
            with tqdm.external_write_mode():
                log.warning("At update %d: %s", trainer.global_step, WARNINGS[kind].format(**details))


def publish(model: Training, values: dict[str, float]) -> None:
    """Send ``values`` to the loggers, under ``diagnosis/``."""
    model.publish({f"diagnosis/{name}": value for name, value in values.items()})
