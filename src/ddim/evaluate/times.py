"""Which terms of the variational bound each image is asked for."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ddim.schedule import Schedule

Draws = Iterator[tuple[Tensor, Tensor]]
"""Times (B,) int64 and their weights (B,) float64, one for each image; first t = 1 for all, weighing 1."""


def at_every_time(schedule: Schedule, images: int) -> Draws:
    """t = 1, 2, ..., T for each image, weighing 1."""
    for t in range(1, schedule.T + 1):
        yield torch.full((images,), t), torch.ones(images, dtype=torch.float64)


def at_some_times(schedule: Schedule, count: int, streams: Sequence[np.random.Generator]) -> Draws:
    """t = 1, and `count` of the times 2 ... T: one drawn from each of `count` parts of equal probability.

    A time's weight is 1 / (count p(t)): the weighted sum of any terms is then, on average, their sum over 2 ... T.

    Args:
        schedule: of the model.
        count: how many times.
        streams: of each image, from which `count` numbers are taken.
    """
    p = probabilities(schedule)
    drawn = torch.from_numpy(np.stack([stream.random(count) for stream in streams]))
    places = (torch.arange(count) + drawn) / count
    k = torch.searchsorted(p.cumsum(0), places, right=True).clamp(max=len(p) - 1)  # the sum may round to below 1
    yield torch.ones(len(streams), dtype=torch.int64), torch.ones(len(streams), dtype=torch.float64)
    yield from zip(k.T + 2, 1 / (count * p[k.T]), strict=True)


def probabilities(schedule: Schedule) -> Tensor:
    """p(t) ~ (SNR(t-1) - SNR(t)) / (1 + SNR(t)) for t = 2 ... T: the size of L_(t-1) if pixels were N(0, 1).

    Such a pixel is known to a variance of 1 / (1 + SNR(t)) from x_t.

    Returns:
        (T - 1,) float64, above 0 and adding up to 1.
    """
    snr = schedule.log_snr.exp()
    size = (snr[1:-1] - snr[2:]) / (1 + snr[2:])
    return size / size.sum()
