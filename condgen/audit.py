"""``condgen audit``: does a trained generator give its training images away?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.evaluate import known_of
from condgen.files import require_writable, write_json
from condgen.generators.base import BLOCK, Generator
from condgen.metrics.canaries import Guesses, guessed
from condgen.metrics.intervals import wilson
from condgen.metrics.manifold import nearest
from condgen.metrics.membership import FEWEST, Attack, attack
from condgen.randomness import generator
from condgen.run.checkpoint import device_of, find, read, restore
from condgen.run.recipe import build_training
from condgen.run.stored import run_of
from condgen.spaces import Images, floating, to_float, to_uint8
from condgen.training.base import Training
from condgen.training.merf import MERF

DRAWS = 16
"""Draws of noise over which the loss of an image is averaged, the same for all images."""
NEAR = 0.01
"""Share of unseen images that lie nearer to a training image than what is called near."""


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        attacks: of membership inference.
        copies: (k, n): so many of so many samples lie nearer to a training image than 99 % of unseen images do.
        sizes: members, non-members, reference images and samples.
        claimed: what the checkpoint says of its differential privacy; None: nothing.
        canaries: what each attack guessed of canaries; empty where the training had none.
    """

    attacks: list[Attack]
    copies: tuple[int, int]
    sizes: dict[str, int]
    claimed: dict[str, Any] | None
    canaries: list[Guesses]

    @property
    def bound(self) -> float:
        """The largest of the lower bounds of epsilon."""
        return max([one.epsilon for one in self.attacks] + [one.epsilon for one in self.canaries])

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        share = {"count": self.copies[0], "of": self.copies[1], "expected": NEAR, "interval": wilson(self.copies)}
        return {
            "attacks": [one.plain() for one in self.attacks],
            "copies": share,
            "sizes": self.sizes,
            "privacy": self.claimed,
            "canaries": [one.plain() for one in self.canaries],
        }


def audit(
    target: Path, count: int = 5000, samples: int = 5000, seed: int = 0, device: str = "cpu", trust: bool = False
) -> tuple[Audit, Path]:
    """Attack the model of a run, and write ``audit.json`` into it.

    Args:
        target: a run directory or one of its checkpoints.
        count: training images, and unseen ones, at most.
        samples: that are drawn.
        seed: decides which images and which samples.
        device: where to compute.
        trust: accept foreign classes in the stored configuration.

    Raises:
        CondgenError: no run with its data, or too few images to tell anything.
    """
    path = find(target)
    run = run_of(path)
    if run is None:
        raise CondgenError(f"{target} has no run with its training data: condgen audit needs the run directory itself.")
    require_writable(run)
    checkpoint, data = read(path), build("data", known_of(path, trust)["data"])
    model = restore(checkpoint, path, trust)
    if not isinstance(model.space, Images) or not isinstance(data.space, Images):
        raise CondgenError(f"condgen audit compares images, and {target} makes none.")
    if model.condition.map_shape is not None:
        raise CondgenError(f"condgen audit has no attack on models that start from an image, as that of {target} does.")
    members, others, reference = chosen_rows(data, count, seed)
    place = device_of(device)
    drawn = draw(model.to(place), data, samples, seed)
    seen = [pictures(data.train, members), pictures(*others)]
    delta = (checkpoint.get("privacy") or {}).get("delta", 1e-5)
    inside, outside = calibrated(drawn, pictures(*reference), seen)
    attacks = [attack("nearest sample", inside, outside, delta)]
    inner = inner_attack(checkpoint, data, place)
    if inner and inner.members:
        attacks.append(attack(inner.name, inner.scores(data.train, members), inner.scores(*others), delta))
    guesses = []
    if data.canaries:
        canaries = [(part, torch.arange(len(part))) for part in data.canaries]
        found = {"nearest sample": calibrated(drawn, pictures(*reference), [pictures(*some) for some in canaries])}
        if inner:
            found[inner.name] = [inner.scores(*some) for some in canaries]
        for name, scores in found.items():
            inside, outside = of_class(scores, data.canaries)
            guesses.append(guessed(name, inside, outside, delta))
    everything = pictures(data.train, torch.arange(len(data.train)))
    sizes = {"members": len(members), "others": len(others[1]), "reference": len(reference[1]), "samples": len(drawn)}
    result = Audit(attacks, near(drawn, everything, seen[1]), sizes, checkpoint.get("privacy"), guesses)
    write_json(run / "audit.json", result.plain())
    return result, run / "audit.json"


# --- the images ---


def chosen_rows(data: DataModule, count: int, seed: int) -> tuple[Tensor, tuple[Any, Tensor], tuple[Any, Tensor]]:
    """Return rows of the train part, and parts with rows for unseen images and for the reference, which share none."""

    def some(size: int, purpose: str) -> Tensor:
        return torch.randperm(size, generator=generator(seed, "audit", purpose))

    members = some(len(data.train), "members")[:count]
    if data.has_test:
        unseen = data.test
        others, reference = (unseen, some(len(unseen), "others")[:count]), (data.val, some(len(data.val), "reference")[:count])
    else:  # the validation part is shared out
        order = some(len(data.val), "others")
        others, reference = (data.val, order[::2][:count]), (data.val, order[1::2][:count])
    fewest = min(len(members), len(others[1]), len(reference[1]))
    if fewest < FEWEST:
        raise CondgenError(f"{fewest} images tell nothing of membership: at least {FEWEST} are needed of each part (--count).")
    return members, others, reference


def pictures(part: Any, rows: Tensor) -> Tensor:
    """Return images of a part, flat, float32 (N, D) in [-1, 1]."""
    return floating(part.table.images[part.rows[rows]]).flatten(1)


def draw(model: Generator, data: DataModule, count: int, seed: int) -> Tensor:
    """Draw samples for the training images' own conditions, rounded to 256 levels: flat, float32 (N, D) in [-1, 1]."""
    rows = torch.arange(count) * len(data.train) // count
    conditions = torch.split(data.encode(data.train, rows, model.condition), BLOCK)
    drawn = [to_uint8(model.sample_block(i, condition, seed)).cpu() for i, condition in enumerate(conditions)]
    return to_float(torch.cat(drawn)).flatten(1)


# --- the attacks ---


def calibrated(drawn: Tensor, reference: Tensor, images: list[Tensor]) -> list[Tensor]:
    """Return scores of each set of images: how much nearer they are to a sample than to a real image that nobody trained on.

    The reference takes out how usual an image is, which decides most of its distance to anything (Chen et al. 2020, GAN-Leaks,
    section 5.4).
    """
    return [-(nearest(some, drawn)[0] / nearest(some, reference)[0].clamp(min=1e-6)) for some in images]


def of_class(scores: list[Tensor], canaries: tuple[Part, Part]) -> list[Tensor]:
    """Return scores of canaries without the mean of their class, which depends on how many of it are in."""
    every, labels = torch.cat(scores), torch.cat([part.labels for part in canaries])
    for label in set(labels.tolist()):
        every[labels == label] -= every[labels == label].mean()
    return list(torch.split(every, [len(part) for part in canaries]))


def near(drawn: Tensor, train: Tensor, unseen: Tensor) -> tuple[int, int]:
    """Return how many samples lie nearer to a training image than all but a share `NEAR` of unseen images, of how many."""
    radius = nearest(unseen, train)[0].quantile(NEAR)
    return int((nearest(drawn, train)[0] < radius).sum()), len(drawn)


class Inner:
    """An attack that looks into the model, as somebody could who has all of the run.

    Of a GAN it is D's logit (Hayes et al. 2019, LOGAN), of mean embeddings what they hold beside the known images', of others
    the loss that was trained, under the averaged weights.

    Args:
        training: as it ended.
        data: that it was trained on.
        device: where to compute.
    """

    def __init__(self, training: Training, data: DataModule, device: torch.device):
        self.training, self.data, self.device = training, data, device
        judged = hasattr(training, "discriminator")
        self.name = "embedding" if isinstance(training, MERF) else "discriminator" if judged else "loss"
        self.members = not isinstance(training, MERF)
        """Whether it tells members, too, and not canaries alone."""
        self.draws, self.sign = (DRAWS, -1) if self.name == "loss" else (1, 1)

    @torch.no_grad()
    def scores(self, part: Part, rows: Tensor) -> Tensor:
        """Return a score (N,) of each of the images at ``rows`` of ``part``, larger for members."""
        found = []
        for some in torch.split(rows, BLOCK):
            x = floating(part.table.images[part.rows[some]]).to(self.device)
            condition = self.data.encode(part, some, self.training.condition).to(self.device)
            total = sum(self.training.alone(x, condition, number) for number in range(self.draws))
            found.append(self.sign * torch.as_tensor(total).cpu())
        return torch.cat(found)


def inner_attack(checkpoint: dict[str, Any], data: DataModule, device: torch.device) -> Inner | None:
    """Return the attack that looks into a checkpoint's model; None: its family has nothing to look at."""
    with torch.random.fork_rng(devices=[]):
        training = build_training(checkpoint["condgen"])
    if training.mechanism is None:
        return None
    training.load_state_dict(checkpoint["state_dict"])
    training.generator.load_state_dict(training.eval_generator.state_dict())
    training.eval().to(device)
    if isinstance(training, MERF) and data.canaries:  # what is known of all others is taken out
        known = Part(data.train.table, data.train.rows[: len(data.train) - len(data.canaries[0])])
        training.sums -= training.summed(data.ordered(known))
    return Inner(training, data, device)


# --- what is said ---


def told(found: Audit) -> str:
    """Return the findings as a table, and a sentence that says what they mean."""
    lines = [f"{'attack':<16}{'AUC':>20}{'TPR at 1 % FPR':>24}{'TPR at 0.1 % FPR':>24}{'epsilon >=':>12}"]
    for one in found.attacks:
        low, high = one.auc_interval
        rates = "".join(f"{f'{tpr:.2%} ({a:.2%}-{b:.2%})':>24}" for _, tpr, (a, b) in one.rates)
        lines.append(f"{one.name:<16}{f'{one.auc:.3f} ({low:.3f}-{high:.3f})':>20}{rates}{one.epsilon:>12.2f}")
    k, n = found.copies
    low, high = wilson(found.copies)
    lines.append(
        f"{k / n:.2%} ({low:.2%}-{high:.2%}) of {n:,} samples lie nearer to a training image than all but {NEAR:.0%} of unseen "
        f"images do; {NEAR:.0%} would be expected of images that nobody copied."
    )
    lines += [
        f"Of {one.canaries:,} canaries its {one.name} guessed {one.right:,} of {one.guesses:,} right: "
        f"epsilon >= {one.epsilon:.2f} (95 %)."
        for one in found.canaries
    ]
    best = max(found.attacks, key=lambda one: one.auc)
    sure = best.auc_interval[0] > 0.5
    lines.append(
        f"By its {best.name}, training images {'are' if sure else 'cannot be'} told from unseen ones"
        + (f": of a pair the right one in {best.auc:.1%} of cases." if sure else " better than by chance.")
    )
    if found.claimed:
        bound, claimed = found.bound, found.claimed["spent"]
        verdict = "lies under" if bound <= claimed else "lies above"
        lines.append(
            f"The training claims epsilon {claimed:.3g} at delta {found.claimed['delta']:g}, and the bound {bound:.2f} "
            f"{verdict} it{'.' if bound <= claimed else ': the claim is wrong, please report it.'}"
        )
    return "\n".join(lines)
