"""Steps against seconds: what a sample costs, beside the calls of the bare network that it cannot do without."""

import time
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ddim import environment
from ddim.denoiser import Denoiser
from ddim.experiments.cost import affordable, batch_seconds, cut, forward_once, forward_seconds, reachable, wait
from ddim.experiments.piece import Setup
from ddim.level import Denoise, Level, Noise
from ddim.samplers import DDIM, State

STEPS = (10, 20, 50, 100, 200, 500, 1000)
BATCHES = (64, 16, 4)
SHORT, REPEATS = 100, 3  # up to S = 100 the middle one of three repeats
FORWARDS = 20  # bare calls in a run, at most


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the timing takes."""
    return float(BATCHES[0] * sum(map(_calls, reachable(STEPS, model.schedule.T))))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Measure DDIM (eta = 0) at several S, interleaved with calls of the bare network on the same batch.

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take: first the batch becomes smaller, then the longest S are left out.

    Returns:
        The machine, the batch, and for each S its seconds, those of a bare call meanwhile and the ratio to S
        bare calls; under "cut" what the limit took away.
    """
    model, every = setup.model, reachable(STEPS, setup.model.schedule.T)
    choices = [(batch, every) for batch in BATCHES]
    choices += [(BATCHES[-1], every[:n]) for n in range(len(every) - 1, 1, -1)]
    call = {b: batch_seconds(model, b, seconds) for b in BATCHES}
    batch, ladders = affordable(choices, lambda c: call[c[0]] * sum(map(_calls, c[1])), seconds)
    changes = [f"to batches of {batch}"] if batch != BATCHES[0] else []
    changes += [f"to at most {ladders[-1]} steps"] if ladders != every else []
    return {
        "machine": environment.describe(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "rows": _measure(model, batch, ladders),
        "cut": cut(seconds, changes),
    }


class Run(NamedTuple):
    """Seconds of one sampling, and of one bare call meanwhile."""

    seconds: float
    forward: float


def _measure(model: Denoiser, batch: int, every: list[int]) -> list[dict[str, Any]]:
    forward_seconds(model, batch)  # warm
    runs: dict[int, list[Run]] = {S: [] for S in every}
    with tqdm(total=sum(map(_calls, every)), desc="timing", unit="call", disable=None) as bar:
        for repeat in range(REPEATS):
            for S in every:
                if repeat < _repeats(S):
                    runs[S].append(_time(model, batch, S))
                    bar.update(S + min(S, FORWARDS))
    return [_row(S, sorted(runs[S])[len(runs[S]) // 2], batch) for S in every]


def _repeats(S: int) -> int:
    return REPEATS if S <= SHORT else 1


def _calls(S: int) -> int:
    return _repeats(S) * (S + min(S, FORWARDS))


def _row(S: int, run: Run, batch: int) -> dict[str, Any]:
    return {
        "steps": S,
        "calls": S,  # DDIM makes one in each step
        "repeats": _repeats(S),
        "seconds": run.seconds,
        "seconds_per_image": run.seconds / batch,
        "forward_seconds": run.forward,
        "ratio_to_forwards": run.seconds / (S * run.forward),
    }


def _time(model: Denoiser, batch: int, steps: int) -> Run:
    sampler = Interleaved(model, batch, steps)
    wait(model)
    began = time.perf_counter()
    model.sample(batch, steps=steps, sampler=sampler, batch_size=batch, progress=False)
    return Run(time.perf_counter() - began - sampler.paused, mean(sampler.forwards))


class Interleaved(DDIM):
    """DDIM that pauses now and then for a bare call: both then meet the same load of a busy machine.

    Attributes:
        forwards: seconds of each bare call.
        paused: seconds to take off the time of the whole.
    """

    def __init__(self, model: Denoiser, batch: int, steps: int) -> None:
        super().__init__()
        self.model, self.batch = model, batch
        self.taken, self.pause = 0, -(-steps // FORWARDS)
        self.forwards: list[float] = []
        self.paused = 0.0

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        if self.taken % self.pause == 0:
            wait(self.model)
            began = time.perf_counter()
            self.forwards.append(forward_once(self.model, self.batch))
            self.paused += time.perf_counter() - began
        self.taken += 1
        return super().step(denoise, x, at, to, state, noise)
