"""Solvers of ordinary differential equations dx/dt = v(x, t) with steps of equal length.

A method of order p is off by O(h^p) at the end, with steps of length h (Hairer, Norsett & Wanner 1993, chapter II.1).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Time = float | Tensor
"""A number, or in an exported graph a tensor of no dimension."""
Velocity = Callable[[Tensor, Time], Tensor]
"""v(x, t): of states (B, ...) at one time, of the same shape."""
Step = Callable[[Velocity, Tensor, Time, float], Tensor]
"""Goes from x at t to t + h."""


def euler(v: Velocity, x: Tensor, t: Time, h: float) -> Tensor:
    """Order 1, one evaluation."""
    return x + h * v(x, t)


def midpoint(v: Velocity, x: Tensor, t: Time, h: float) -> Tensor:
    """Order 2, two evaluations: the velocity halfway."""
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


def heun(v: Velocity, x: Tensor, t: Time, h: float) -> Tensor:
    """Order 2, two evaluations: the mean of the velocities at both ends; in the last step one, see `LAST`."""
    first = v(x, t)
    return x + h / 2 * (first + v(x + h * first, t + h))


SOLVERS: dict[str, Step] = {"euler": euler, "midpoint": midpoint, "heun": heun}
LAST = SOLVERS | {"heun": euler}
"""What the last step is made with. Heun's method would look at x(1), which ought to be a sample: what noise the prediction
still has looks like data there, and half of it would stay (Karras et al. 2022, algorithm 1, makes the same exception). One step
of order 1 is off by O(h^2), so the order of the whole remains."""


def integrate(
    v: Velocity,
    x: Tensor,
    steps: int,
    solver: str,
    on_step: Callable[[int, int, Tensor], None] | None = None,
    to_samples: bool = True,
) -> Tensor:
    """Follow v from x (B, ...) at t = 0 to t = 1 in ``steps`` steps of the method that `SOLVERS` has under ``solver``.

    Where the end is a sample (``to_samples``), the last step is made as `LAST` says.
    After each step ``on_step`` is called with how many are done, how many there are and where x is now; what it raises ends
    the solution.
    """
    if torch.compiler.is_exporting():
        return exported(v, x, steps, solver)
    for i in range(steps):
        method = LAST if to_samples and i + 1 == steps else SOLVERS
        x = method[solver](v, x, i / steps, 1 / steps)
        if on_step is not None:
            on_step(i + 1, steps, x)
    return x


def exported(v: Velocity, x: Tensor, steps: int, solver: str) -> Tensor:
    """Do as `integrate`, to samples, in a loop of the graph that torch exports: written out, steps take minutes to export."""
    from torch._higher_order_ops.while_loop import while_loop

    def body(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, SOLVERS[solver](v, x, i / steps, 1 / steps)

    _, x = while_loop(lambda i, x: i < steps - 1, body, (torch.zeros((), device=x.device), x))  # type: ignore[no-untyped-call]
    return LAST[solver](v, x, (steps - 1) / steps, 1 / steps)
