"""What network calls cost on this machine, and which of several extents of an experiment fit into a limit."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import torch

from ddim.denoiser import Denoiser

Choice = TypeVar("Choice")


def affordable(choices: Sequence[Choice], cost: Callable[[Choice], float], seconds: float | None) -> Choice:
    """Return the first choice whose cost in seconds fits into a limit, or the last one if none fits.

    The whole experiment comes first in `choices`, the cheapest extent last.
    """
    return next((choice for choice in choices if seconds is None or cost(choice) <= seconds), choices[-1])


def cut(seconds: float | None, changes: Sequence[str]) -> str | None:
    """Return what a limit took away, e.g. "a limit of 30 s cut it from 50 to 20 steps"; None if nothing."""
    limit = f"{seconds or 0:.2g}" if (seconds or 0) < 10 else f"{seconds:.0f}"
    return f"a limit of {limit} s cut it {' and '.join(changes)}" if changes else None


def fewer(full: int, taken: int, unit: str) -> list[str]:
    """Return the change from `full` to `taken` for `cut`; empty if there is none."""
    return [f"from {full:,} to {taken:,} {unit}"] if taken != full else []


def reachable(steps: Sequence[int], T: int) -> list[int]:
    """Return the numbers of steps that are at most T; T alone if there is none."""
    return [S for S in steps if S <= T] or [T]


def batch_seconds(model: Denoiser, batch: int, limit: float | None) -> float:
    """Return the seconds of one network call on `batch` images; 0 if there is no limit to compare them with."""
    return 0.0 if limit is None else forward_seconds(model, batch, repeats=3)


def forward_seconds(model: Denoiser, batch: int, repeats: int = 5) -> float:
    """Return the seconds of one network call on `batch` images: the median of several, after a warm-up call."""
    durations = [forward_once(model, batch) for _ in range(1 + repeats)]
    return median(durations[1:])


@torch.no_grad()
def forward_once(model: Denoiser, batch: int) -> float:
    """Return the seconds of one network call on an idle device."""
    model.eval()
    x = torch.randn(batch, *model.shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    t = torch.full((batch,), model.schedule.T / 2, device=model.device)
    label = () if model.classes is None else (torch.zeros(batch, dtype=torch.long, device=model.device),)
    wait(model)
    began = time.perf_counter()
    model.network(x, t, *label)
    wait(model)
    return time.perf_counter() - began


def wait(model: Denoiser) -> None:
    """Wait until the device is idle: a GPU works on after a call has returned."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    elif model.device.type == "mps":
        torch.mps.synchronize()
