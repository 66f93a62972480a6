"""What the network costs on this machine, and what can therefore be afforded."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import torch

from ddim.denoiser import Denoiser

Choice = TypeVar("Choice")


def affordable(choices: Sequence[Choice], cost: Callable[[Choice], float], seconds: float | None) -> Choice:
    """The first choice whose cost fits into `seconds`; the last one if none does.

    Args:
        choices: the one that is wanted first, the cheapest last.
        cost: seconds that a choice takes.
        seconds: the limit; None is no limit.
    """
    return next((choice for choice in choices if seconds is None or cost(choice) <= seconds), choices[-1])


def cut(seconds: float | None, changes: Sequence[str]) -> str | None:
    """What a limit took away, in words; None if nothing."""
    limit = f"{seconds or 0:.2g}" if (seconds or 0) < 10 else f"{seconds:.0f}"
    return f"a limit of {limit} s cut it {' and '.join(changes)}" if changes else None


def reachable(steps: Sequence[int], T: int) -> list[int]:
    """Those numbers of steps that a schedule has; T alone if it has none of them."""
    return [S for S in steps if S <= T] or [T]


def batch_seconds(model: Denoiser, batch: int, limit: float | None) -> float:
    """What to hold against a limit of seconds: those of a call on so many images, 0 where there is no limit."""
    return 0.0 if limit is None else forward_seconds(model, batch, repeats=3)


def forward_seconds(model: Denoiser, batch: int, repeats: int = 5) -> float:
    """Seconds of one call of the network alone on a batch of so many images: a median, after a warm-up call."""
    durations = [forward_once(model, batch) for _ in range(1 + repeats)]
    return median(durations[1:])


@torch.no_grad()
def forward_once(model: Denoiser, batch: int) -> float:
    """Seconds of one call of the network alone, from idle to idle."""
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
    """Until the device has done what it was asked: a GPU works on after the call has returned."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    elif model.device.type == "mps":
        torch.mps.synchronize()
