"""The budget of a training under differential privacy: how much noise it needs, and what has been spent.

A training is (epsilon, delta)-differentially private if for any two sets that differ in one image, and any set S of outcomes,

    P(A(D) in S) <= exp(epsilon) P(A(D') in S) + delta

(Dwork & Roth 2014, definition 2.4). Each step samples every image with probability q, clips each one's gradient to norm C and
adds N(0, (noise C)^2) to their sum (Abadi et al. 2016, algorithm 1). What many steps spend together, Opacus' accountants say.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from condgen.errors import CondgenError
from condgen.randomness import generator as keyed_generator
from condgen.types import Count, Positive, PositiveInt

Delta = Annotated[float, Gt(0), Lt(1)]
LOOKS = 20
"""How often in a run the spent budget is computed for the curves: PRV's accountant takes up to a second."""


@dataclass(frozen=True)
class Spending:
    """What the accountant has to know of a training.

    Attributes:
        rate: probability with which a step samples an image, in (0, 1].
        steps: releases of the whole run.
        noise: deviation of the noise, over the largest norm of one image's contribution.
    """

    rate: float
    steps: int
    noise: float


class Privacy:
    """(epsilon, delta)-differential privacy of each training image.

    Args:
        epsilon: the budget.
        delta: probability that the bound may fail, in (0, 1).
        clip: largest norm of one image's gradient.
        copies: draws of noise and time for each image, over which its gradient is averaged before it is clipped (noise
            multiplicity, Dockhorn et al. 2023, section 3.2).
        piece: images worked through at a time.
        accountant: "prv" (Gopi et al. 2021) or "rdp" (Mironov 2017), both Opacus'.
        noise: deviation of the noise over ``clip``; None: found for the steps planned.
        secret: key of noise and sampling; None: to be set before training, see `condgen.run.private`.

    Raises:
        CondgenError: Opacus is not installed.
    """

    def __init__(
        self,
        epsilon: Positive = 10.0,
        delta: Delta = 1e-5,
        clip: Positive = 1.0,
        copies: PositiveInt = 1,
        piece: PositiveInt = 256,
        accountant: Literal["prv", "rdp"] = "prv",
        noise: Positive | None = None,
        secret: Count | None = None,
    ):
        self.epsilon, self.delta, self.clip = epsilon, delta, clip
        self.copies, self.piece = copies, piece
        self.accountant, self.noise, self.secret = accountant, noise, secret
        self.plan: Spending | None = None
        self._told = (0, 0.0)  # the steps for which the spent budget was computed last, and it
        opacus()

    def __str__(self) -> str:
        return f"({self.epsilon:g}, {self.delta:g})-differential privacy"

    # --- the plan ---

    def prepare(self, size: int, rate: float, steps: int) -> Spending:
        """Find the noise for a run, and return its plan.

        Args:
            size: training images.
            rate: probability with which a step samples each.
            steps: of the whole run.

        Raises:
            CondgenError: a delta that protects nobody, a rate that is none, no noise that suffices, or a given noise that does
                not.
        """
        if self.delta >= 1 / size:
            raise CondgenError(
                f"privacy.delta={self.delta:g} would allow one of {size:,} training images to be given away whole: take less "
                f"than {1 / size:.1g}."
            )
        if not 0 < rate <= 1 or steps < 1:
            raise CondgenError(
                f"data.batch_size must be at most the {size:,} training images, of which each step samples some."
            )
        noise = self.noise or self.smallest_noise(rate, steps)
        self.plan = Spending(rate, steps, noise)
        if (spent := self.spent(steps)) > self.epsilon:
            raise CondgenError(
                f"privacy.noise={noise:g} would spend an epsilon of {spent:.3g} in {steps:,} steps, and privacy.epsilon allows "
                f"{self.epsilon:g}: leave out privacy.noise, which is then found, or train for fewer steps."
            )
        return self.plan

    def smallest_noise(self, rate: float, steps: int) -> float:
        """Return the smallest noise with which ``steps`` stay within the budget, by Opacus' search."""
        try:
            with quiet():
                found: float = opacus().utils.get_noise_multiplier(
                    target_epsilon=self.epsilon,
                    target_delta=self.delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant=self.accountant,
                    epsilon_tolerance=min(0.01, self.epsilon / 100),
                )
        except (ValueError, RuntimeError) as error:
            raise CondgenError(
                f"No noise is found that keeps {steps:,} steps within privacy.epsilon={self.epsilon:g}: allow more, or set "
                "privacy.accountant=rdp."
            ) from error
        return found

    def spent(self, steps: int) -> float:
        """Return the epsilon that ``steps`` of the planned ones have spent; 0 before the first."""
        if not steps:
            return 0.0
        assert self.plan is not None
        accountant = opacus().create_accountant(self.accountant)
        accountant.history = [(self.plan.noise, self.plan.rate, steps)]
        with quiet():
            return float(accountant.get_epsilon(delta=self.delta))

    def spent_lately(self, steps: int) -> float:
        """Return what had been spent when it was computed last, which is at most a twentieth of the plan ago."""
        assert self.plan is not None
        last, every = self._told[0], max(1, self.plan.steps // LOOKS)
        if steps != last and (not last or steps >= min(self.plan.steps, last + every)):
            self._told = steps, self.spent(steps)
        return self._told[1]

    def require_left(self, steps: int) -> None:
        """Refuse step number ``steps`` where it would pass the budget; raises CondgenError."""
        assert self.plan is not None
        if steps > self.plan.steps:
            raise CondgenError(
                f"The budget of epsilon {self.epsilon:g} is spent after the {self.plan.steps:,} steps that were planned: no "
                "further one is made."
            )

    # --- what a checkpoint keeps ---

    def state(self, steps: int) -> dict[str, Any]:
        """Return plain values: the budget, its plan, and what ``steps`` have spent of it. The secret is not among them."""
        assert self.plan is not None
        plan = {"rate": self.plan.rate, "steps": self.plan.steps, "noise": self.plan.noise}
        budget = {"epsilon": self.epsilon, "delta": self.delta, "clip": self.clip, "accountant": self.accountant}
        return budget | plan | {"copies": self.copies, "done": steps, "spent": self.spent(steps)}

    def require_same(self, stored: dict[str, Any], done: int) -> None:
        """Refuse to go on under another plan than a checkpoint's; raises CondgenError."""
        mine = self.state(done)
        changed = [name for name, value in mine.items() if name not in ("done", "spent") and stored.get(name) != value]
        if changed:
            name = changed[0]
            raise CondgenError(
                f"The run's privacy is planned with {name}={shown(stored.get(name))}, and this would go on with "
                f"{shown(mine[name])}: what was spent so far would not add up; keep the plan, or start a new run."
            )

    # --- what is drawn in secret ---

    def stream(self, *key: int | str) -> torch.Generator:
        """Return a CPU generator that the secret and ``key`` decide: killed and resumed, a step draws the same again."""
        assert self.secret is not None
        return keyed_generator(self.secret, "privacy", *key)

    def sampled(self, size: int, rate: float, epoch: int, batch: int) -> Tensor:
        """Return which of ``size`` images a step samples, each with probability ``rate`` (Poisson sampling), int64 (B,)."""
        drawn = torch.rand(size, generator=self.stream("sampled", epoch, batch), dtype=torch.float64)
        return (drawn < rate).nonzero()[:, 0]

    def noisy(self, total: list[Tensor], bound: float, *key: int | str) -> list[Tensor]:
        """Return ``total``, sums to which one image adds at most a vector of norm ``bound``, with the planned noise."""
        assert self.plan is not None
        stream, deviation = self.stream("noise", *key), self.plan.noise * bound
        return [t + deviation * torch.randn(t.shape, generator=stream).to(t.device, t.dtype) for t in total]


def opacus() -> Any:
    """Return Opacus' accountants; raises CondgenError where it is not installed."""
    try:
        from opacus import accountants
        from opacus.accountants import utils  # noqa: F401
    except ImportError as error:
        raise CondgenError("privacy=dp needs the extra condgen[privacy]: pip install 'condgen[privacy]'.") from error
    return accountants


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what the accountants warn about their own search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def shown(value: Any) -> str:
    """Write a value of a plan."""
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)
