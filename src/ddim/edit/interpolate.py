"""Interpolation between images, along the arc between their x_T (DDIM, section 5.3 and appendix D.5)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule

OPPOSITE = 1e-6  # radians from pi: the arc between such vectors is not determined


def slerp(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Return sin((1 - w) theta) / sin(theta) x^(0) + sin(w theta) / sin(theta) x^(1), theta their angle (Eq. 67).

    Two noise tensors have nearly equal lengths and are nearly orthogonal. The points of the straight line between
    them are shorter than noise; those of the arc are not. The arc is computed in float64; for theta = 0 it is the
    straight line.

    Args:
        start, end: the noise of one image each, of any shape, taken as one vector.
        weight: w; 0 is exactly `start`, 1 exactly `end`.

    Returns:
        A tensor with the shape, dtype and device of `start`.

    Raises:
        UserError: vectors of different shapes, of length 0, not finite, or in opposite directions.
    """
    if start.shape != end.shape:
        raise UserError(
            f"Interpolation needs two noise tensors of one shape; got {tuple(start.shape)} and {tuple(end.shape)}."
        )
    a, b = start.cpu().double(), end.cpu().double()  # not every device has float64
    theta = _angle(a, b)
    first, second = (math.sin(w * theta) / math.sin(theta) if theta else w for w in (1 - weight, weight))
    return (first * a + second * b).to(start)  # Eq. 67


def line(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Return the noise at `count` >= 2 equally spaced points of the arc, both ends included: (count, ...).

    Raises:
        UserError: a count below 2, or noise that `slerp` refuses.
    """
    if count < 2:
        raise UserError(f"A line includes its two ends, so it needs at least 2 images; got {count}.")
    return torch.stack([slerp(start, end, i / (count - 1)) for i in range(count)])


def grid(corners: Sequence[Tensor] | Tensor, rows: int, columns: int) -> Tensor:
    """Return the noise of a grid between four corners: arcs along the top and bottom edges, then down each column.

    Args:
        corners: the noise at the top left, top right, bottom left and bottom right (Figure 6).
        rows, columns: size of the grid including the corners, at least 2 each.

    Returns:
        (rows, columns, ...).

    Raises:
        UserError: other than four corners, fewer than 2 rows or columns, or noise that `slerp` refuses.
    """
    if len(corners) != 4:
        raise UserError(f"A grid has four corners; got {len(corners)}.")
    top, bottom = line(corners[0], corners[1], columns), line(corners[2], corners[3], columns)
    return torch.stack([line(a, b, rows) for a, b in zip(top, bottom, strict=True)], dim=1)


def tour(ends: Sequence[Tensor] | Tensor, count: int) -> Tensor:
    """Return the noise of a closed way through all ends in their order: (len(ends) * count, ...).

    Args:
        ends: the noise at each end, at least 2.
        count: points from each end to the next, which is not counted, at least 1.

    Raises:
        UserError: too few ends or points, or noise that `slerp` refuses.
    """
    if len(ends) < 2 or count < 1:
        raise UserError(f"A tour needs at least 2 ends and 1 point of each arc; got {len(ends)} and {count}.")
    neighbours = zip(ends, [*ends[1:], ends[0]], strict=True)
    return torch.cat([line(a, b, count + 1)[:-1] for a, b in neighbours])


def interpolate(
    sampler: Sampler, denoise: Denoise, xT: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Tensor:
    """Return the images that a sampler makes from the noise of a `line` or `grid`.

    Args:
        sampler: a deterministic one; with injected noise, neighbouring images would differ at random.
        denoise: the network; it gets all images as one batch, row by row.
        xT: (..., C, H, W).
        levels: noisiest first, as for `trajectory`.
        schedule: for solvers that evaluate the network between two levels.

    Returns:
        Images with the shape of `xT`.

    Raises:
        UserError: a stochastic sampler.
    """
    if sampler.stochastic:
        raise UserError(
            f"{sampler} injects noise, so x_T does not determine the image; use a deterministic sampler, "
            "such as DDIM(eta=0)."
        )
    *_, x0 = trajectory(sampler, denoise, xT.reshape(-1, *xT.shape[-3:]), levels, schedule=schedule)
    return x0.reshape(xT.shape)


def _angle(a: Tensor, b: Tensor) -> float:
    """theta = arccos(x^(0) . x^(1) / (|x^(0)| |x^(1)|)), in [0, pi] (next to Eq. 67)."""
    lengths = float(a.norm()), float(b.norm())
    if not all(0 < length < math.inf for length in lengths):
        raise UserError("Noise that is 0 everywhere or not finite has no direction; draw it again.")
    theta = math.acos(min(1.0, max(-1.0, float((a / lengths[0] * (b / lengths[1])).sum()))))
    if theta > math.pi - OPPOSITE:
        raise UserError("The two noise tensors are opposite, so the arc is not determined; draw one of them again.")
    return theta
