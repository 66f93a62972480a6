"""Candidates for a number of network calls: every solver on every spacing, and times that are searched for.

Two searches: dynamic programming over the local errors along a teacher's trajectory (GITS, arXiv 2405.11326), and the
log-SNRs at which errors of the predictions weigh least in the result (DM-NonUniform, arXiv 2402.17376).
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ddim import samplers
from ddim.forward import start
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0
from ddim.presets import Method
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule
from ddim.timesteps import compared, levels, timesteps

GRID = 30  # times of the fine grid; the costs of a multistep solver grow with their third power
GAMMAS = (0.9, 1.0, 1.15)  # weights of later errors against earlier ones, of which the best is data-dependent
EVALUATIONS = 300  # of the search for log-SNRs: seconds, without network calls


class Teacher(NamedTuple):
    """What a solver with many steps does from some noises, kept on a fine grid."""

    levels: list[Level]  # K + 1, noisiest first, ending at t = 0
    states: list[Tensor]  # K + 1 of (B, C, H, W): x at each level
    predictions: list[Prediction]  # K: the network's at each level but the last

    @property
    def end(self) -> Tensor:
        """The images that it reaches."""
        return self.states[-1]


def plain(schedule: Schedule, calls: int) -> list[Method]:
    """Return every deterministic solver on every spacing that makes exactly so many network calls."""
    made = ((name, samplers.get(name)) for name in samplers.names())
    return [
        Method(sampler=name, times=tuple(times), found=f"{name}, {spacing}")
        for name, sampler in made
        if not sampler.stochastic
        for spacing in compared()
        if (times := _times_for(schedule, sampler, spacing, calls)) is not None
    ]


def _times_for(schedule: Schedule, sampler: Sampler, spacing: str, calls: int) -> list[float] | None:
    """Return the times of a spacing, without 0, on which a solver makes so many calls; None if there are none."""
    for steps in range(min(calls, schedule.N), 0, -1):
        times = timesteps(schedule, steps, spacing)
        needed = sampler.calls(levels(schedule, times))
        if needed <= calls:
            return [float(t) for t in times[:-1]] if needed == calls else None
    return None


def fine_times(schedule: Schedule, count: int = GRID) -> list[float]:
    """Return times from T to 1 that are dense where time and where log-SNR move: equal steps of their mean."""
    log_snr = schedule.log_snr[1:].numpy()
    finite = np.isfinite(log_snr)
    t = schedule.times[1:].numpy()[finite]
    spread = [(value - value[0]) / max(abs(value[-1] - value[0]), 1e-9) for value in (t, -log_snr[finite])]
    times = np.interp(np.linspace(1, 0, min(count, len(t))), (spread[0] + spread[1]) / 2, t)
    return [float(schedule.T), *map(float, times[1:])]


def between(fine: Sequence[float], parts: int) -> list[float]:
    """Return times, and between each two of them the times that divide the interval into equal parts."""
    divided = [np.linspace(t, s, parts, endpoint=False) for t, s in pairwise(fine)]
    return [float(t) for t in np.concatenate([*divided, fine[-1:]])]


def teach(
    denoise: Denoise, noise: Tensor, schedule: Schedule, sampler: Sampler, fine: Sequence[float], parts: int = 2
) -> Teacher:
    """Run a solver of many steps, and return its states and predictions at the times `fine`.

    Args:
        denoise, noise: the network, and the noise that x_T is made of, (B, C, H, W).
        sampler: the teacher's solver, deterministic, with one network call a step.
        fine: times of the grid, descending from T, without 0.
        parts: number of the teacher's steps from one time of the grid to the next.
    """
    visited = levels(schedule, timesteps(schedule, None, between(fine, parts)))
    predictions: list[Prediction] = []

    def kept(x: Tensor, at: Level) -> Prediction:
        predictions.append(denoise(x, at))
        return predictions[-1]

    xT = start(visited[0], noise)
    states = [xT, *trajectory(sampler, kept, xT, visited, schedule=schedule)]
    return Teacher([*visited[:-1:parts], visited[-1]], [*states[:-1:parts], states[-1]], predictions[::parts])


def local_errors(sampler: Sampler, teacher: Teacher, schedule: Schedule) -> Tensor:
    """Return c[k, i, j], the error of the solver's step from grid level i to j after a step from k, (K, K, K + 1).

    The step uses the teacher's states and predictions, and its error is the distance of x / alpha to the teacher's at
    j, a mean over the noises. c[i, i, j] is that of a first step; where the levels do not descend, c is infinite.
    """
    K = len(teacher.predictions)
    costs = torch.full((K, K, K + 1), torch.inf, dtype=torch.float64)
    known = {float(level.t): prediction for level, prediction in zip(teacher.levels, teacher.predictions, strict=False)}

    def stored(x: Tensor, at: Level) -> Prediction:
        return known.get(float(at.t), Prediction(x, x))  # the latter only in steps whose result is not used

    one_step = getattr(sampler, "memory", 0) == 0
    for i in range(K):
        for j in range(i + 1, K + 1):
            for k in [i] if one_step else range(i + 1):
                # A last level at t = 0, as solvers lower the order of their last steps.
                path = [*([k] if k < i else []), i, j, *([K] if j < K else [])]
                visited = [teacher.levels[node] for node in path]
                steps = trajectory(sampler, stored, teacher.states[path[0]], visited, schedule=schedule)
                *_, reached = islice(steps, path.index(j))
                gap = (reached - teacher.states[j]).flatten(1) / teacher.levels[j].alpha
                costs[k, i, j] = gap.double().square().sum(1).sqrt().mean()
            if one_step:
                costs[:i, i, j] = costs[i, i, j]
    return costs


def shortest(costs: Tensor, steps: int, gamma: float = 1.0) -> list[int]:
    """Return the grid indices 0 = i_0 < ... < i_S = K of least sum_n gamma^n c[i_(n-1), i_n, i_(n+1)], i_(-1) = i_0.

    By dynamic programming: V_n(k, i) = min_j c[k, i, j] + gamma V_(n-1)(i, j) (GITS, Algorithm 1, with the level before
    in the state).

    Args:
        costs: (K, K, K + 1), from `local_errors`.
        steps: S, from 1 to K.
        gamma: weight of each further step.
    """
    K = costs.shape[0]
    values, choices = costs[:, :, K], [torch.full((K, K), K)]  # one step to the end
    for _ in range(steps - 1):
        later = torch.cat([values, values.new_full((K, 1), torch.inf)], dim=1)  # V_(n-1)(i, j); no step from the end
        values, chosen = (costs + gamma * later).min(dim=2)
        choices.append(chosen)
    k, i, path = 0, 0, [0]
    for chosen in reversed(choices):
        k, i = i, int(chosen[k, i])
        path.append(i)
    return path


class Costs(dict[str, Tensor]):
    """The local errors of solvers along one teacher's trajectory, by name, computed at the first request."""

    def __init__(self, teacher: Teacher, schedule: Schedule) -> None:
        super().__init__()
        self.teacher, self.schedule = teacher, schedule

    def __missing__(self, name: str) -> Tensor:
        self[name] = local_errors(samplers.get(name), self.teacher, self.schedule)
        return self[name]


def searched(name: str, costs: Costs, calls: int) -> Iterator[Method]:
    """Yield a solver of one call a step on the times of `shortest`, for each of `GAMMAS`; none for too many calls."""
    levels = costs.teacher.levels
    for gamma in GAMMAS if calls < len(levels) else ():
        path = shortest(costs[name], calls, gamma)
        times = tuple(float(levels[i].t) for i in path[:-1])
        yield Method(sampler=name, times=times, found=f"{name}, dynamic programming, gamma {gamma:g}")


def least_weighted(name: str, schedule: Schedule, calls: int) -> Method | None:
    """Return a solver of one call a step, at the log-SNRs that minimise sum_n |c_n| sigma_n / alpha_n.

    c_n is the weight with which the prediction of x0 at level n enters the image at t = 1, and an error of the network
    is about sigma / alpha large there (DM-NonUniform, arXiv 2402.17376). No network is called. None for one call, and
    for a schedule that ends at alpha = 0.
    """
    sampler = samplers.get(name)
    low, high, first = (float(value) for value in (schedule.log_snr[-1], schedule.log_snr[1], schedule.times[1]))
    if calls < 2 or not np.isfinite(low):
        return None

    def times(gaps: NDArray[np.float64]) -> list[float]:
        weights = np.exp(gaps - gaps.max())
        values = low + (high - low) * np.cumsum(weights)[:-1] / weights.sum()
        return [float(schedule.T), *schedule.at_log_snr(torch.from_numpy(values)).t.flatten().tolist()]

    def cost(gaps: NDArray[np.float64]) -> float:
        visited = levels(schedule, torch.tensor([*times(gaps), first], dtype=torch.float64))
        rhos = torch.stack([level.sigma / level.alpha for level in visited[:-1]])
        return float((_shares(sampler, visited, schedule).abs() * rhos).sum())

    found = minimize(cost, np.zeros(calls), method="Powell", bounds=[(-2, 2)] * calls, options={"maxfev": EVALUATIONS})
    return Method(sampler=name, times=tuple(times(found.x)), found=f"{name}, least weighted errors")


def _shares(sampler: Sampler, visited: Sequence[Level], schedule: Schedule) -> Tensor:
    """Return c_n of each network call: the network answers with one basis vector a call, from x_T = 0."""
    asked = iter(torch.eye(sampler.calls(visited), dtype=torch.float64))
    start = torch.zeros(1, sampler.calls(visited), dtype=torch.float64)
    steps = trajectory(sampler, lambda x, at: from_x0(x, at, next(asked)[None]), start, visited, schedule=schedule)
    *_, end = steps
    return end[0]


def one_call_a_step(method: Method, schedule: Schedule) -> bool:
    """Return whether a method makes one network call in each step."""
    sampler, visited = method.resolve(schedule)
    return sampler.calls(visited) == len(method.times)
