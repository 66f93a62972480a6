"""What an update sees. It depends on (seed, step, position in the batch) alone, so nothing need be remembered
between two updates, and a batch is the same however many processes share it."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import NULL
from ddim.noise import ORDER, TIMES, TRAINING, stream
from ddim.train.plan import Plan

GROUP = 16  # positions that share a stream: a stream for each would take longer to make than to draw from


class Batch(NamedTuple):
    """Some positions of a batch: images where the set keeps them; labels (B,), times (B,) and noise on the CPU."""

    x0: Tensor
    label: Tensor
    t: Tensor
    noise: Tensor


def draw(plan: Plan, images: Images, T: int, step: int, positions: range) -> Batch:
    """Some positions of the batch of update `step`, from 1 on.

    Each group of positions has a random stream, which gives, in this order, their times, whether they are mirrored
    and their labels hidden, and their noise.

    Args:
        plan: how to train.
        images: what to learn.
        T: the last time.
        step: which update.
        positions: which of the `plan.batch_size` images of the batch.
    """
    x0, label = images.batch(indices(plan, len(images), step, positions))
    groups = range(positions.start // GROUP, -(-positions.stop // GROUP))
    streams = [stream(plan.seed, (step - 1) * -(-plan.batch_size // GROUP) + group, TRAINING) for group in groups]
    here = slice(positions.start - groups.start * GROUP, positions.stop - groups.start * GROUP)
    numbers = np.concatenate([rng.random((GROUP, 3)) for rng in streams])[here]
    normals = [rng.standard_normal((GROUP, *x0.shape[1:]), dtype=np.float32) for rng in streams]
    u, mirrored, hidden = torch.from_numpy(numbers).unbind(1)
    noise = torch.from_numpy(np.concatenate(normals)[here])
    if plan.mirror and images.mirror:
        x0 = torch.where((mirrored < 0.5).to(x0.device)[:, None, None, None], x0.flip(-1), x0)
    label = torch.where(hidden < plan.label_dropout, NULL, label)
    if plan.times == "stratified":
        u = _stratified(plan, step, positions)
    return Batch(x0, label, 1 + (T * u).long(), noise)


def indices(plan: Plan, images: int, step: int, positions: range) -> Tensor:
    """The images at those positions of update `step`: an endless row of shuffled epochs is cut into batches."""
    places = ((step - 1) * plan.batch_size + position for position in positions)
    return torch.tensor([int(_order(plan.seed, at // images, images)[at % images]) for at in places])


def _stratified(plan: Plan, step: int, positions: range) -> Tensor:
    """Numbers in [0, 1), one in each of `batch_size` equal parts, all moved by one draw (arXiv 2107.00630, I.1).

    A batch's parts are shuffled over its positions, so that an image does not meet the same part each time.
    """
    rng = stream(plan.seed, step, TIMES)
    shift, part = rng.random(), rng.permutation(plan.batch_size)
    return torch.from_numpy((part[list(positions)] + shift) / plan.batch_size)


@lru_cache(maxsize=2)  # a batch spans two epochs at most, unless there are fewer images than it holds
def _order(seed: int, epoch: int, images: int) -> np.ndarray:
    return stream(seed, epoch, ORDER).permutation(images)
