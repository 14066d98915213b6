"""Pictures that show what a model has learned: walks through its latents and its classes, and its nearest training images.

Each is uint8 (3, H, W), ready for `condgen.files.save_png` and for a logger's ``log_picture``. They are drawn in eval mode,
with the averaged weights where there are any, from streams of their own: the training does not notice.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.generators.base import BLOCK, Generator, evaluating
from condgen.randomness import generator
from condgen.spaces import Rows, Space, floating

NEIGHBOURS = 3
"""Training images that are shown for each generated sample."""

CANDIDATES = 50
"""Training images among which exact distances decide."""

THIN, WIDE = 6, 18
"""White pixels between a sample and its neighbours, and between one group of them and the next."""


def latent_interpolation(model: Generator, *, rows: int = 10, steps: int = 10, seed: int = 0) -> Tensor | None:
    """Walk from one latent to another at a fixed condition: jumps and dead zones on the way betray a memorized training set.

    Each class has a row, and all walk between the same two latents, so that within a column only the class differs; where
    nothing can be asked for, each row has two latents of its own.

    Args:
        model: of any family whose latents are Gaussian.
        rows: classes that are shown, spread over all where there are more; rows of an unconditional model.
        steps: samples in a row, with both ends; at least 2.
        seed: decides the latents.

    Returns:
        The grid, uint8 (3, H, W); None for a model that needs images to start from.
    """
    if model.condition.map_shape is not None:
        return None
    every = model.requested(seed=seed)
    requested = spread(every, rows) if len(every) > 1 else every.expand(rows, *every.shape[1:])
    walks = 1 if len(every) > 1 else rows
    first, last = model.latents(2 * walks, generator(seed, "latent interpolation")).chunk(2)  # (walks, ...) each
    z = torch.stack([slerp(first, last, t) for t in torch.linspace(0, 1, steps).tolist()], dim=1)  # (walks, steps, ...)
    z = z.expand(len(requested), *z.shape[1:]).flatten(0, 1)
    return model.space.grid(decode(model, z, requested.repeat_interleave(steps, dim=0)), steps)


def condition_interpolation(model: Generator, *, rows: int = 10, steps: int = 10, seed: int = 0) -> Tensor | None:
    """Walk from each class to the next at one fixed latent, by mixing their vectors: what does a class change?

    Of attributes the first walks, and what is left open is the same everywhere.

    Args:
        model: of any family.
        rows: walks at most; a row ends where the next begins.
        steps: samples in a row, with both ends; at least 2.
        seed: decides the latent.

    Returns:
        The grid, uint8 (3, H, W); None for a model without conditions to walk between.
    """
    every = model.condition.every()
    if len(every) < 2:
        return None
    corners = spread(every, rows + 1)
    if corners.is_floating_point():  # all corners leave the same open, which is drawn once
        drawn = model.condition.draw(1, generator(seed, "condition")).to(corners.dtype)
        corners = torch.where(corners.isnan(), drawn, corners)
    walks = [walk(model, first[None], last[None], steps, seed) for first, last in pairwise(corners)]
    return model.space.grid(torch.cat(walks), steps)


def walk(model: Generator, first: Tensor, last: Tensor, steps: int, seed: int = 0) -> Tensor:
    """Draw ``steps`` samples (steps, *shape) at one latent, on the way between two encoded conditions (1, ...)."""
    return along(model, mixtures(model, first, last, steps), seed)


def mixtures(model: Generator, first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Return ``steps`` mixtures (steps, ...) on the way between two encoded conditions (1, ...)."""
    return torch.cat([model.condition.between(first, last, share) for share in torch.linspace(0, 1, steps).tolist()])


def along(model: Generator, conditions: Tensor, seed: int) -> Tensor:
    """Draw a sample (N, *shape) for each encoded condition or mixture (N, ...), all of them at one latent."""
    z = model.latents(1, generator(seed, "class interpolation"))
    return decode(model, z.expand(len(conditions), *z.shape[1:]), conditions)


def neighbours(
    generated: Tensor,
    generated_features: Tensor,
    train: Rows,
    train_features: Tensor,
    space: Space,
    columns: int = 4,
    rows: Tensor | None = None,
) -> Tensor:
    """Show each generated sample and, after a thin gap, the training images nearest to it in feature space, nearest first.

    Args:
        generated: samples (N, *shape), float in [-1, 1] or uint8.
        generated_features: theirs, (N, D).
        train: training samples (M, *shape), float in [-1, 1] or uint8.
        train_features: theirs, (M, D).
        space: what a sample is.
        columns: groups of a sample and its neighbours in a row.
        rows: which of ``train`` the features belong to, int64 (M,); None: all.

    Returns:
        The picture, uint8 (3, H, W), row by row in the order of ``generated``.
    """
    nearest = nearest_rows(generated_features.cpu(), train_features.cpu(), NEIGHBOURS)  # (N, 3)
    nearest = nearest if rows is None else rows[nearest]
    strips = []
    for column in range(min(columns, len(generated))):
        shown = nearest[column::columns]
        samples = space.grid(floating(generated[column::columns]), 1)
        found = space.grid(floating(train[shown.flatten().to(train.device)]), shown.shape[1])
        strips.append(torch.cat([samples, white(samples.shape[1], THIN), found], dim=2))
    height = strips[0].shape[1]  # a last row that is not full leaves the later columns shorter
    strips = [F.pad(strip, (0, 0, 0, height - strip.shape[1]), value=255) for strip in strips]
    return torch.cat([part for strip in strips for part in (white(height, WIDE), strip)][1:], dim=2)


def slerp(first: Tensor, last: Tensor, t: float) -> Tensor:
    """Interpolate Gaussian latents (N, ...) along the great circle through them (Shoemake 1985; White 2016, section 2.1).

    In many dimensions a normal prior lies close to a sphere. A straight line cuts through its inside, where the midpoint is
    shorter by a factor of about 0.7 than anything that the model has seen in training; the arc stays where the prior is.
    """
    a, b = first.flatten(1).double(), last.flatten(1).double()
    angle = F.cosine_similarity(a, b).clamp(-1, 1).acos()[:, None]
    sine = angle.sin()
    # Latents in one line have no arc between them, or have many: they are mixed linearly.
    arc = sine.abs() > 1e-6
    sine = sine.where(arc, torch.ones_like(sine))
    here = (((1 - t) * angle).sin() / sine).where(arc, torch.full_like(sine, 1 - t))
    there = ((t * angle).sin() / sine).where(arc, torch.full_like(sine, t))
    return (here * a + there * b).to(first.dtype).view_as(first)


@torch.inference_mode()
def decode(model: Generator, z: Tensor, condition: Tensor) -> Tensor:
    """Decode latents (N, ...), one for each encoded condition or mixture of classes (N, ...), a block at a time."""
    with evaluating(model):
        blocks = zip(torch.split(z, BLOCK), torch.split(condition, BLOCK), strict=True)
        pairs = ((some.to(model.device), requested.to(model.device)) for some, requested in blocks)
        return torch.cat([model.condition.finish(model.decode(some, requested), requested) for some, requested in pairs])


def nearest_rows(queries: Tensor, points: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` points (M, D) nearest to each query (N, D): (N, count), nearest first."""
    # A matrix product is fast, but its rounding swallows the small distances of copies: it only chooses the candidates.
    squares = points.square().sum(1) - 2 * queries @ points.T  # (N, M), up to a constant of each query
    candidates = squares.topk(min(CANDIDATES, len(points)), largest=False).indices  # (N, CANDIDATES)
    distances = (points[candidates] - queries[:, None]).square().sum(2)
    nearest = distances.topk(min(count, distances.shape[1]), largest=False).indices
    return candidates.gather(1, nearest)


def spread(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` of the rows (N, ...), evenly spread from the first to the last; all where there are no more."""
    if len(rows) <= count:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def white(height: int, width: int) -> Tensor:
    """Return a gap, uint8 (3, height, width)."""
    return torch.full((3, height, width), 255, dtype=torch.uint8)
