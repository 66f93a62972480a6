"""What holds of every sampler on every ladder: the calls it promises, the same twice, each image by itself."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddim import timesteps
from ddim.level import Level, Prediction
from ddim.noise import ImageNoise
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule, linear
from ddim.verify.exact import GAUSSIAN, POINT
from ddim.verify.marginals import Law, error, law
from ddim.verify.order import SCHEDULE, stretched
from ddim.verify.verdict import Proof

Make = Callable[[], Sampler]

COUNTS = (1, 2, 3, 5, 10, 20, 50)  # steps
ROUNDING = 1e-9
IMAGES = 3


class Watched:
    """A denoiser that counts its calls and notes those at sigma = 0, where a network was never trained."""

    def __init__(self) -> None:
        self.calls, self.clean = 0, 0

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        self.calls += 1
        self.clean += bool((at.sigma == 0).any())
        return GAUSSIAN.denoise(x, at)


def promised_calls(make: Make) -> Proof:
    """On every named ladder: `calls` is what is made, none of them at t = 0, and the end is finite.

    The value counts the ladders on which that is not so.
    """
    schedule, wrong = linear(), 0
    for spacing in timesteps.names():
        for S in COUNTS:
            sampler, watched = make(), Watched()
            levels = timesteps.levels(schedule, timesteps.timesteps(schedule, S, spacing))
            end = _run(sampler, watched, levels, range(IMAGES), schedule)
            wrong += watched.calls != sampler.calls(levels) or watched.clean > 0 or not bool(end.isfinite().all())
    return Proof("calls", wrong, 0)


def repeats(make: Make) -> Proof:
    """The same input gives the same bits; the value is the largest difference."""
    one, other = (_example(make, range(IMAGES)) for _ in range(2))
    return Proof("repeat", _difference(one, other), 0)


def batches(make: Make) -> Proof:
    """An image alone comes out as in a batch, to the bit; the value is the largest difference."""
    alone = torch.cat([_example(make, [i]) for i in range(IMAGES)])
    return Proof("batch", _difference(alone, _example(make, range(IMAGES))), 0)


def point_mass(make: Make) -> Proof:
    """With a single possible image any ladder is exact: x_s = alpha_s x0 + sigma_s eps, in mean and deviation.

    Held on 7 uneven steps that end above t = 0, on the same and one more to t = 0, and on the single step [T, 0].
    """
    to_zero, from_T = SCHEDULE(0.0), SCHEDULE(float(SCHEDULE.T))
    walks = [stretched(7), [*stretched(7), to_zero], [from_T, to_zero]]
    errors = [error(law(make(), POINT, walk, SCHEDULE), Law(*POINT.law(walk[-1]))) for walk in walks]
    return Proof("point mass", max(e if math.isfinite(e) else math.inf for e in errors), ROUNDING)


def calls_a_step(sampler: Sampler, S: int = 50) -> float:
    """Network calls for each step of a ladder of S."""
    schedule = linear()
    return sampler.calls(timesteps.levels(schedule, timesteps.timesteps(schedule, S))) / S


def _example(make: Make, rows: range | list[int]) -> Tensor:
    return _run(make(), GAUSSIAN.denoise, [*stretched(7), SCHEDULE(0.0)], rows, SCHEDULE)


def _run(
    sampler: Sampler,
    denoise: Callable[[Tensor, Level], Prediction],
    levels: list[Level],
    rows: range | list[int],
    schedule: Schedule,
) -> Tensor:
    noise = ImageNoise(0, rows)
    x = noise(torch.empty(len(rows), 1, 1, len(GAUSSIAN.mean), dtype=torch.float64))
    *_, end = trajectory(sampler, denoise, x, levels, noise, schedule)
    return end


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest difference; infinite where one of the two is no number."""
    return 0.0 if torch.equal(one, other) else float((one - other).abs().max().nan_to_num(math.inf))
