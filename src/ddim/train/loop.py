"""The training loop, as a generator: the caller decides what to print, save and draw."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import NULL, Denoiser
from ddim.errors import UserError
from ddim.noise import HELD_OUT, ORDER, TRAINING, stream
from ddim.train.ema import Average
from ddim.train.plan import Plan


class Progress(NamedTuple):
    """Where training stands after an update.

    Attributes:
        step: updates done.
        epoch: passes over the images done, a real number.
        fraction: of the whole training that is done, in (0, 1]; 1 after the last update.
        loss: mean loss of this batch.
        seconds: since training began, evaluation included.
        average: the model with the averaged weights, as good as it is so far. It goes on changing.
    """

    step: int
    epoch: float
    fraction: float
    loss: float
    seconds: float
    average: Denoiser


def fit(model: Denoiser, images: Images, plan: Plan) -> Iterator[Progress]:
    """Train a model in place, on the device where it is.

    What an update sees depends on (seed, step) alone: the batch is a slice of an endless sequence of shuffled
    epochs, and times, noise, mirroring and dropout come from one random stream per step.

    Args:
        model: to train; its network is left with the latest weights, not with the averaged ones.
        images: what to learn.
        plan: how.

    Yields:
        Where training stands, after each update.

    Raises:
        UserError: a loss or a gradient that is not a number. The average then is that of the step before.
    """
    accelerator = Accelerator(device_placement=False)  # everything stays where the model is
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=plan.learning_rate, weight_decay=0.0)
    optimizer = accelerator.prepare(optimizer)
    average = Average(model.network, plan.ema)
    averaged = model.with_network(average.network)
    total, began = plan.total_steps(len(images)), time.perf_counter()
    for step in count(1):
        rng = stream(plan.seed, step, TRAINING)
        x0, label = images.batch(indices(plan, len(images), step))
        if plan.mirror and images.mirror:
            x0 = torch.where(torch.from_numpy(rng.random((len(x0), 1, 1, 1)) < 0.5), x0.flip(-1), x0)
        x0 = x0.to(model.device, model.dtype)
        t, noise = draw(rng, x0, model.schedule.T)
        if model.classes is not None:
            label = torch.where(torch.from_numpy(rng.random(len(label)) < plan.label_dropout), NULL, label)

        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, step / max(1, plan.warmup))
        model.train()
        with seeded(int(rng.integers(2**63)), model.device):  # dropout draws from PyTorch's own generator
            loss = model.loss(x0, t, noise, None if model.classes is None else label).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.network.parameters(), plan.clip)
        value, steepness = loss.item(), norm.item()
        if not math.isfinite(value + steepness):
            raise UserError(
                f"Training broke down at step {step}: the loss is {value:.3g}, its gradient "
                f"{steepness:.3g}; try again with a learning rate below {plan.learning_rate:g}."
            )
        optimizer.step()
        average.update(model.network)

        seconds = time.perf_counter() - began
        fraction = max(step / total if total else 0.0, seconds / (60 * plan.minutes) if plan.minutes else 0.0)
        epoch = step * plan.batch_size / len(images)
        yield Progress(step, epoch, min(fraction, 1.0), value, seconds, averaged)
        if fraction >= 1:
            return


def indices(plan: Plan, images: int, step: int) -> Tensor:
    """The images of update `step`, from 1 on: the next `batch_size` places of an endless row of shuffled epochs."""
    places = range((step - 1) * plan.batch_size, step * plan.batch_size)
    return torch.tensor([int(_order(plan.seed, at // images, images)[at % images]) for at in places])


@lru_cache(maxsize=2)  # a batch spans two epochs at most, unless there are fewer images than it holds
def _order(seed: int, epoch: int, images: int) -> np.ndarray:
    return stream(seed, epoch, ORDER).permutation(images)


def draw(rng: np.random.Generator, x0: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """Times t uniform on 1 ... T, (B,), and noise shaped like `x0` (arXiv 2006.11239, Algorithm 1)."""
    t = torch.from_numpy(rng.integers(1, T, size=len(x0), endpoint=True))
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
    return t, noise.to(x0)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's generators start from `seed` within; the CPU's and the device's go on afterwards as if unused."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def held_out_loss(model: Denoiser, images: Images, most: int = 512, batch_size: int = 128) -> float:
    """The mean loss on images that training never sees, at times and noise that are the same at every call.

    Args:
        model: usually `Progress.average`.
        images: a held-out split; its first `most` are used, each at one of as many equally spaced times.
        most: how many images at most.
        batch_size: images at a time.
    """
    model.eval()
    number = min(most, len(images))
    times = model.schedule.T * (torch.randperm(number, generator=torch.Generator().manual_seed(0)) + 0.5) / number
    losses = []
    for rows in torch.arange(number).tensor_split(-(-number // batch_size)):
        x0, label = images.batch(rows)
        x0 = x0.to(model.device, model.dtype)
        noise = torch.from_numpy(stream(0, int(rows[0]), HELD_OUT).standard_normal(x0.shape, dtype=np.float32))
        losses.append(model.loss(x0, times[rows], noise.to(x0), None if model.classes is None else label))
    return torch.cat(losses).mean().item()
