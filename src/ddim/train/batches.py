"""The batch of each update.

It is a function of (seed, step, position) alone. So a resumed training needs no generator state, and the batch is
the same for any number of processes.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddim.data.augmentations import resolve
from ddim.data.images import Images
from ddim.denoiser import NULL
from ddim.noise import ORDER, TIMES, TRAINING, stream
from ddim.schedule import Schedule
from ddim.train import augment
from ddim.train.recipe import Plan

GROUP = 16  # positions that share a random stream: creating one for each position takes longer than drawing from it
LOGNORMAL = -1.2, 1.2  # mean and standard deviation of log(sigma / alpha) (EDM, arXiv 2206.00364, Table 1)
PREFETCH = 4  # updates, one thread each: a single thread may draw fewer images per second than a GPU trains on

ON_DEVICE = ("x0", "noise", "augmentation", "condition")  # the tensors of a batch that are copied to the device


class Batch(NamedTuple):
    """A part of a batch of B images."""

    x0: Tensor  # (B, C, H, W) clean images in [-1, 1], on the device of the data set's pixels
    label: Tensor  # (B,) int64 classes, on the CPU, like the rest
    t: Tensor  # (B,) int64 training steps of the schedule, 1 ... N
    noise: Tensor  # (B, C, H, W) float32, standard normal
    augmentation: Tensor  # (B, `augment.CONDITION`) float32: how x0 was transformed; (B, 0) without augmentation
    condition: Tensor  # (B, D) float32, a vector for each image, or NaN for the null vector; (B, 0) without conditions


def draw_batch(
    plan: Plan, images: Images, N: int, step: int, positions: range, cumulative: Tensor | None = None
) -> Batch:
    """Return the images, labels, training steps and noise at some positions of a batch.

    Each group of 16 positions has one random stream. It gives, in this order, the training steps, the mirroring and the
    dropped labels, the noise, and the augmentation.

    Args:
        plan, images: the batch size, the seed and the augmentations; the training images.
        N: number of training steps of the schedule.
        step: the update, from 1 on.
        positions: a part of 0 ... `plan.batch_size` - 1.
        cumulative: (N,) the probabilities of a training step of at most 1 ... N; None is equal ones.
    """
    indices = image_indices(plan, len(images), step, positions)
    x0, label = images.batch(indices)
    groups = range(positions.start // GROUP, -(-positions.stop // GROUP))
    streams = [stream(plan.seed, (step - 1) * -(-plan.batch_size // GROUP) + group, TRAINING) for group in groups]
    here = slice(positions.start - groups.start * GROUP, positions.stop - groups.start * GROUP)
    uniforms = np.concatenate([rng.random((GROUP, 3)) for rng in streams])[here]
    normals = [rng.standard_normal((GROUP, *x0.shape[1:]), dtype=np.float32) for rng in streams]
    u, mirrored, dropped = torch.from_numpy(uniforms).unbind(1)
    noise = torch.from_numpy(np.concatenate(normals)[here])
    if plan.mirror and images.mirror:
        x0 = torch.where((mirrored < 0.5).to(x0.device)[:, None, None, None], x0.flip(-1), x0)
    augmentation = torch.zeros(len(x0), 0)
    if plan.augment:
        table, side = resolve(images.augmentations, len(x0[0]), plan.augmentations), images.shape[1:]
        draws = torch.from_numpy(np.concatenate([augment.draw(rng, GROUP) for rng in streams])[here])
        found = augment.parameters(draws, table, plan.augment, side)
        x0, augmentation = augment.transform(x0, found, table), augment.condition(found, table, side, len(x0))
    label = torch.where(dropped < plan.label_dropout, NULL, label)
    condition = torch.zeros(len(x0), 0) if images.conditions is None else images.conditions[indices]
    condition = torch.where((dropped < plan.label_dropout)[:, None], torch.nan, condition)
    if plan.times != "uniform":
        u = _stratified(plan, step, positions)
    t = 1 + ((N * u).long() if cumulative is None else torch.searchsorted(cumulative, u, right=True))
    return Batch(x0, label, t, noise, augmentation, condition)


def lognormal(schedule: Schedule) -> Tensor:
    """Return the probabilities of a training step of at most 1 ... N, (N,) float64, if log(sigma / alpha) is normal.

    A step stands for the levels from halfway to the one before to halfway to the next, the first and the last for all
    beyond them.
    """
    log_noise = -schedule.log_snr[1:] / 2  # log(sigma / alpha) at the steps 1 ... N
    mean, std = LOGNORMAL
    halfway = (log_noise[:-1] + log_noise[1:]) / 2
    return torch.cat([torch.special.ndtr((halfway - mean) / std), log_noise.new_ones(1)])


def image_indices(plan: Plan, count: int, step: int, positions: range) -> Tensor:
    """Return which of `count` images stand at some positions of a batch: shuffled epochs, cut into batches."""
    places = ((step - 1) * plan.batch_size + position for position in positions)
    return torch.tensor([int(_order(plan.seed, place // count, count)[place % count]) for place in places])


def _stratified(plan: Plan, step: int, positions: range) -> Tensor:
    """Numbers in [0, 1), one in each of `batch_size` equal parts, all shifted by one draw (arXiv 2107.00630, I.1).

    The parts are shuffled over the positions, so that an image does not get the same part in every epoch.
    """
    rng = stream(plan.seed, step, TIMES)
    shift, part = rng.random(), rng.permutation(plan.batch_size)
    return torch.from_numpy((part[list(positions)] + shift) / plan.batch_size)


@lru_cache(maxsize=2)  # a batch spans two epochs at most, unless it holds more images than the data set
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return stream(seed, epoch, ORDER).permutation(count)


class Prefetcher:
    """Draw the next batches in threads, and copy them to the GPU, while it works on the current one.

    Args:
        draw: returns the batch of (step, positions), which depends on these two alone.
        device: where images, noise and augmentation go.
    """

    def __init__(self, draw: Callable[[int, range], Batch], device: torch.device) -> None:
        self._draw, self._device = draw, device
        self._threads = ThreadPoolExecutor(PREFETCH)
        self._pending: dict[tuple[int, range], Future[Batch]] = {}
        # A stream of its own, so that copies run beside the arithmetic.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, step: int, positions: range) -> Batch:
        """Return the same batch as `draw(step, positions)`, and start on those of the next steps."""
        for later in range(step, step + PREFETCH):
            if (later, positions) not in self._pending:
                self._pending[later, positions] = self._threads.submit(self._fetch, later, positions)
        batch = self._pending.pop((step, positions)).result()
        self._pending = {key: job for key, job in self._pending.items() if step <= key[0] < step + PREFETCH}
        if self._stream is not None:  # its memory is not free before the arithmetic that uses it is done
            for name in ON_DEVICE:
                getattr(batch, name).record_stream(torch.cuda.current_stream(self._device))
        return batch

    def _fetch(self, step: int, positions: range) -> Batch:
        with torch.cuda.stream(self._stream):
            batch = self._draw(step, positions)
            if self._stream is not None:
                batch = batch._replace(**{name: getattr(batch, name).to(self._device) for name in ON_DEVICE})
                self._stream.synchronize()
        return batch
