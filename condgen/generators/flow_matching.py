"""The generator of flow matching (Lipman et al. 2023): a velocity field that carries noise to samples.

A sample is the end at t = 1 of dx/dt = v(x, t, c) from noise x_0 ~ N(0, I). Where c was dropped at times in training, for a
null, the velocity can be guided: v_w = v(x, t, null) + w (v(x, t, c) - v(x, t, null)) (Ho & Salimans 2022, equation 6, with w
for 1 + w).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.guided import Guided
from condgen.generators.ode import SOLVERS, Time, integrate
from condgen.spaces import Space
from condgen.types import BelowOne, Positive, PositiveInt


class FlowMatchingGenerator(Guided):
    """A (conditional) velocity field, followed by an ODE solver.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        network: makes v from (condition, space); v(x, t, c, dropped) is a batch of velocities, with times t (B,) and bool (B,).
        condition_dropout: probability with which a condition is dropped in training; 0: samples cannot be guided.
        solver: how the path is followed: euler, midpoint or heun.
        steps: number of steps of the solver.
        guidance: scale w of classifier-free guidance; 1 for none.
    """

    family = "flow matching"
    OPTIONS = (*Guided.OPTIONS, "guidance", "steps", "solver")

    def __init__(
        self,
        space: Space,
        condition: Condition,
        network: Callable[..., nn.Module],
        condition_dropout: BelowOne = 0.1,
        solver: str = "heun",
        steps: PositiveInt = 10,
        guidance: Positive = 1.0,
    ):
        super().__init__(space, condition)
        self.network = network(condition=condition, space=space)
        self.condition_dropout = condition_dropout
        self.defaults = {"solver": solver, "steps": steps, "guidance": guidance}
        self.set_sampling()

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Refuse an unknown solver, too."""
        super().check_sampling(sampling)
        if sampling["solver"] not in SOLVERS:
            raise CondgenError(f"solver must be {', '.join(SOLVERS)}, not {sampling['solver']}.")

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw x_0 ~ N(0, I), (count, *shape)."""
        return torch.randn(count, *self.space.shape, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Follow the field from noise (B, *shape) to samples of the same shape, within [-1, 1]."""

        def velocity(x: Tensor, t: Time) -> Tensor:
            return self.guided(x, torch.as_tensor(t, device=x.device, dtype=x.dtype).expand(x.shape[0]), condition)

        def on_step(done: int, total: int, x: Tensor) -> None:
            if self.on_step is not None:  # the end of the straight line from the noise through x
                self.on_step(done, total, lambda: (z + (x - z) * (total / done)).clamp(-1, 1))

        steps, solver = int(self.sampling["steps"]), str(self.sampling["solver"])
        return integrate(velocity, z, steps, solver, on_step).clamp(-1, 1)

    def guided(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocities that samples follow, at x (B, *shape), t (B,), for encoded conditions (B, ...)."""
        kept = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        scale = self.sampling.get("guidance", 1)
        if scale == 1:
            velocity: Tensor = self.network(x, t, condition, kept)
            return velocity
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([condition] * 2), torch.cat([kept, ~kept]))
        conditional, null = both[: x.shape[0]], both[x.shape[0] :]
        return torch.lerp(null, conditional, scale)
