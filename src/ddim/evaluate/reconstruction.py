"""Encode to x_T and decode again: the error that the steps leave behind (DDIM, section 5.4 and Table 2)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import batches, spread_rows
from ddim.evaluate.intervals import Mean
from ddim.samplers import DDIM

STEPS = (10, 20, 50, 100, 200, 500, 1000)


class Row(NamedTuple):
    """What S steps there and S steps back leave behind.

    Attributes:
        steps: S.
        error: the mean square error per dimension, in units in which images lie in [0, 1], as in Table 2; the
            interval is over images.
    """

    steps: int
    error: Mean


def measure(
    model: Denoiser,
    images: Images,
    *,
    count: int | None = None,
    steps: Sequence[int] | None = None,
    spacing: str = "trailing",
    batch_size: int = 64,
    progress: bool = True,
) -> Iterator[Row]:
    """Encode and decode images with DDIM (eta = 0), at several S. Nothing is drawn and nothing is clipped.

    Args:
        model: on the device to use; a model with classes is given the labels, both ways.
        images: usually a held-out split.
        count: how many of them, spread over the set; None is all.
        steps: the numbers of steps; None is those of Table 2 that the schedule has.
        spacing: the ladder. "trailing" reaches x_T; the paper's for CIFAR-10, "quadratic", ends at 0.8 T.
        batch_size: images at a time.
        progress: whether to show a bar.

    Yields:
        A row for each S, as soon as it is known.

    Raises:
        UserError: at the call, for images that are not the model's kind, or a count or S that cannot be.
    """
    T, rows = model.schedule.T, spread_rows(model, images, count)
    every = [S for S in STEPS if S <= T] or [T] if steps is None else list(steps)
    if not all(1 <= S <= T for S in every):
        raise UserError(f"The numbers of steps must lie between 1 and T = {T}; got {', '.join(map(str, every))}.")
    return _measure(model, images, rows, every, spacing, batch_size, progress)


def _measure(
    model: Denoiser, images: Images, rows: Tensor, every: list[int], spacing: str, batch_size: int, progress: bool
) -> Iterator[Row]:
    total = 2 * sum(every) * len(rows)
    with tqdm(total=total, desc="reconstruction", unit="call", disable=None if progress else True) as bar:
        for S in every:
            errors = []
            for batch in batches(model, images, rows, batch_size):
                xT = model.encode(batch.x0, steps=S, sampler=DDIM(), spacing=spacing, labels=batch.label)
                back = model.decode(xT, steps=S, sampler=DDIM(), spacing=spacing, labels=batch.label)
                errors.append(error(batch.x0, back))
                bar.update(2 * S * len(batch.rows))
            yield Row(S, Mean.of(torch.cat(errors)))


def error(x0: Tensor, back: Tensor) -> Tensor:
    """mean ((x0 - back) / 2)^2 of each image, (B,) float64 on the CPU: [-1, 1] is twice as long as [0, 1]."""
    return ((x0 - back).cpu().double() / 2).square().flatten(1).mean(1)
