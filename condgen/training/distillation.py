"""Distillation of flow matching: a field that goes in a few steps where its teacher goes in many, guidance included.

    L = E_{i, x_0, (x_1, c)} || v(x_t, t, c) - N (phi(x_t, t, t + 1/N, c) - x_t) ||^2,    t = i / N, i = 0 .. N - 1

phi follows the teacher's guided field from t to t + 1/N, so v learns its mean velocity over a whole step of the student, which
Euler's method then makes at once. It is a single stage of progressive distillation (Salimans & Ho 2022, algorithm 2), from many
steps to N, with guidance as in Meng et al. 2023, at one scale. The student starts from the teacher's weights.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.generators.flow_matching import FlowMatchingGenerator
from condgen.generators.ode import Time, integrate
from condgen.losses.velocity import VelocityLoss
from condgen.spaces import Space
from condgen.training.base import MakeOptimizer
from condgen.training.flow_matching import FlowMatching
from condgen.training.options import Options
from condgen.training.times import Times
from condgen.types import PositiveInt


class Teacher(Protocol):
    """Whoever holds a trained generator."""

    generator: Generator


class Distillation(FlowMatching):
    """The training of a velocity field that makes the steps of another one at once.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how far a velocity is from the teacher's mean one.
        generator: makes the student from (space, condition); its steps are those that it learns, and Euler's method makes them.
        optimizer: makes the optimizer from the parameters.
        teacher: holds a trained field with the student's network; it is asked with the guidance and the solver that it has.
        substeps: the teacher's steps in one of the student's.
        times: which of the steps are looked at how often; None: all alike.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.

    Raises:
        CondgenError: the teacher is no such field, or makes other samples than these.
    """

    mechanism = None
    steps_compile = False  # the teacher's solver is not part of what can be compiled

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: VelocityLoss,
        generator: Callable[..., FlowMatchingGenerator],
        optimizer: MakeOptimizer,
        teacher: Teacher,
        substeps: PositiveInt = 3,
        times: Times | None = None,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, loss, generator, optimizer, times, options, seed)
        student, taught = self.generator, teacher.generator
        if student.defaults["solver"] != "euler" or student.defaults["guidance"] != 1:
            raise CondgenError(
                "A distilled field makes its steps by Euler's method, and its teacher's guidance is in it: set "
                "model.generator.solver=euler model.generator.guidance=1."
            )
        if not isinstance(taught, FlowMatchingGenerator):
            raise CondgenError(f"model.teacher is of the family {taught.family}: only flow matching can be distilled.")
        if same(taught.space) != same(space) or taught.condition.config() != condition.config():
            raise CondgenError(
                f"model.teacher makes {taught.space} samples of {told(taught.condition)}, and the data are {space} with "
                f"{told(condition)}: take the data and the condition that it was trained with."
            )
        try:
            student.network.load_state_dict(taught.network.state_dict())
        except RuntimeError:
            raise CondgenError(
                "The student starts from its teacher's weights and has another network: set model.generator.network as the "
                "teacher's configuration has it."
            ) from None
        self.frozen_networks = [taught.requires_grad_(False)]
        self.substeps = substeps
        self.keep_average()

    @property
    def steps(self) -> int:
        """Number of the student's steps."""
        return int(self.generator.defaults["steps"])

    def losses_of(self, *given: Tensor) -> Tensor:
        """See `SingleNetwork.losses_of`: no condition is dropped, since the teacher's guidance is learned."""
        return self.path_losses(self.generator, given, self.times, 0.0)

    def placed(self, t: Tensor) -> Tensor:
        """See `FlowMatching.placed`: the beginnings of the student's steps."""
        return (t * self.steps).floor().clamp(max=self.steps - 1) / self.steps

    def target(self, noise: Tensor, x: Tensor, on_path: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """See `FlowMatching.target`: the teacher's mean velocities over a step."""
        return self.mean_velocity(on_path, t, condition, self.steps)

    @torch.no_grad()
    def mean_velocity(self, x: Tensor, t: Tensor, condition: Tensor, steps: int) -> Tensor:
        """Return the teacher's mean velocity from x (B, *shape) at t (B,) to t + 1 / ``steps``, (B, *shape).

        The teacher is followed over that step as over a path from 0 to 1.
        """
        teacher = self.frozen_networks[0].to(x.device)
        assert isinstance(teacher, FlowMatchingGenerator)
        solver = str(teacher.sampling["solver"])

        def followed(x: Tensor, t: Tensor, condition: Tensor, to_samples: bool) -> Tensor:
            def velocity(state: Tensor, passed: Time) -> Tensor:
                return teacher.guided(state, t + passed / steps, condition) / steps

            return integrate(velocity, x, self.substeps, solver, to_samples=to_samples)

        end, last = torch.empty_like(x), (t * steps).round() == steps - 1
        for rows, to_samples in ((~last, False), (last, True)):
            if rows.any():
                end[rows] = followed(x[rows], t[rows], condition[rows], to_samples)
        return (end - x) * steps


def same(space: Space) -> dict[str, Any]:
    """Return what two spaces must agree in: all but the statistics of their data."""
    return {name: value for name, value in space.config().items() if name not in ("mean", "deviation")}


def told(condition: Condition) -> str:
    """Name what a condition knows, for messages."""
    names = condition.describe(condition.every())
    return f"{len(names)} conditions ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
