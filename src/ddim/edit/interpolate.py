"""Interpolation between images: along the arc between their noises x_T (DDIM, section 5.3 and appendix D.5)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule

OPPOSITE = 1e-6  # radians short of pi: the arc between such vectors could go round either way


def slerp(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """sin((1 - w) theta) / sin(theta) x^(0) + sin(w theta) / sin(theta) x^(1), theta their angle (Eq. 67).

    Two noises are about equally long and nearly at right angles: a straight line between them would pass where no
    noise lies, the arc does not. It is computed in float64, and is a straight line where theta = 0.

    Args:
        one, other: two vectors, each a tensor of any shape taken as a whole: the noise of one image.
        weight: w; 0 is exactly `one`, 1 exactly `other`.

    Returns:
        A tensor like `one`.

    Raises:
        UserError: vectors of different shapes, without a direction, or in opposite directions.
    """
    if one.shape != other.shape:
        raise UserError(f"An arc joins two noises of one shape; got {tuple(one.shape)} and {tuple(other.shape)}.")
    a, b = one.cpu().double(), other.cpu().double()  # not every device has float64
    theta = _angle(a, b)
    first, second = (math.sin(w * theta) / math.sin(theta) if theta else w for w in (1 - weight, weight))
    return (first * a + second * b).to(one)  # Eq. 67


def line(one: Tensor, other: Tensor, count: int) -> Tensor:
    """The noises at `count` equal steps along the arc, both ends included: (count, ...).

    Raises:
        UserError: a count below 2, or what `slerp` refuses.
    """
    if count < 2:
        raise UserError(f"A line has two ends, so it takes at least 2 images; got {count}.")
    return torch.stack([slerp(one, other, i / (count - 1)) for i in range(count)])


def grid(corners: Sequence[Tensor] | Tensor, rows: int, columns: int) -> Tensor:
    """The noises of a grid between four: arcs along the top and the bottom edge, and arcs down between them.

    Args:
        corners: the noises at the top left, top right, bottom left and bottom right (Figure 6).
        rows, columns: of the grid, corners included.

    Returns:
        (rows, columns, ...).

    Raises:
        UserError: other than four corners, fewer than 2 rows or columns, or what `slerp` refuses.
    """
    if len(corners) != 4:
        raise UserError(f"A grid has four corners; got {len(corners)} noises.")
    top, bottom = line(corners[0], corners[1], columns), line(corners[2], corners[3], columns)
    return torch.stack([line(a, b, rows) for a, b in zip(top, bottom, strict=True)], dim=1)


def interpolate(
    sampler: Sampler, denoise: Denoise, xT: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Tensor:
    """The images of noises that are laid out along a `line` or in a `grid`.

    Args:
        sampler: a deterministic one; with another, neighbours would have nothing in common.
        denoise: the network; all noises are one batch for it, in reading order.
        xT: (..., C, H, W).
        levels: noisiest first, as `trajectory` takes them.
        schedule: for solvers that evaluate between levels.

    Returns:
        Shaped like `xT`.

    Raises:
        UserError: a stochastic sampler.
    """
    if sampler.stochastic:
        raise UserError(
            f"{sampler} injects noise, so that an image does not follow from its x_T; use a deterministic sampler, "
            "such as DDIM(eta=0)."
        )
    *_, x0 = trajectory(sampler, denoise, xT.reshape(-1, *xT.shape[-3:]), levels, schedule=schedule)
    return x0.reshape(xT.shape)


def _angle(a: Tensor, b: Tensor) -> float:
    """theta = arccos(x^(0) . x^(1) / (|x^(0)| |x^(1)|)), between 0 and pi (beside Eq. 67)."""
    lengths = float(a.norm()), float(b.norm())
    if not all(0 < length < math.inf for length in lengths):
        raise UserError("An arc joins two directions; a noise that is 0 or not a number has none: draw another.")
    theta = math.acos(min(1.0, max(-1.0, float((a / lengths[0] * (b / lengths[1])).sum()))))
    if theta > math.pi - OPPOSITE:
        raise UserError("The two noises are opposite, and many arcs join them; draw another noise for one end.")
    return theta
