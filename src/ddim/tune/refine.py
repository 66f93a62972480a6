"""Refinement of a method: its times, one shift and a few corrections, towards the end of a teacher's trajectory.

GS (arXiv 2510.17699) trains these numbers by gradients on thousands of trajectories. They are at most `MOST` here, so
that Gauss-Newton on a few noises serves. It starts at the base solver, whose corrections are all zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddim.forward import start
from ddim.level import Denoise, Level, Prediction
from ddim.presets import Method
from ddim.samplers import trajectory
from ddim.schedule import Schedule

MOST = 24  # numbers to tune; a method of more steps is not refined
STEP = 2e-3  # of a finite difference
ANCHOR = 1e-4  # weight of the squared numbers, which keeps the method near its base solver
DAMPING = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the geometric mean of a number's curvature and the largest one
REUSED = 2  # more steps with each Jacobian
TINY = 1e-30  # of a step's squared length: a method that is exact has no slope
Array = NDArray[np.float64]


class Distance:
    """The distance of methods to a teacher's end from the same noise, the root mean square over the pixels.

    Args:
        denoise: the network.
        noise: what x_T is made of, (B, C, H, W).
        end: where the teacher arrives from it.
        schedule: the model's.
    """

    def __init__(self, denoise: Denoise, noise: Tensor, end: Tensor, schedule: Schedule) -> None:
        self.denoise, self.noise, self.end, self.schedule = denoise, noise, end, schedule

    def residuals(self, method: Method, denoise: Denoise | None = None) -> Array:
        """Return the differences of all pixels, scaled so that their squares add up to the mean square."""
        sampler, visited = method.resolve(self.schedule)
        xT = start(visited[0], self.noise)
        *_, reached = trajectory(sampler, denoise or self.denoise, xT, visited, schedule=self.schedule)
        gap: Array = (reached - self.end).double().flatten().cpu().numpy()
        return gap / float(np.sqrt(gap.size))

    def __call__(self, method: Method) -> float:
        """Return the root mean square."""
        return float(np.sqrt(np.square(self.residuals(method)).sum()))


class Remembered:
    """A `Denoise` that answers again where a trajectory is still equal to the one that it first saw.

    A change of step n leaves the calls before it equal, which halves the network calls of a Jacobian.
    """

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise
        self.known: list[tuple[Tensor, Level, Prediction]] = []
        self.learning, self.n, self.equal = True, 0, True

    def again(self) -> "Remembered":
        """Begin another trajectory."""
        self.learning, self.n, self.equal = False, 0, True
        return self

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        n, self.n = self.n, self.n + 1
        if self.learning:
            self.known.append((x, at, self.denoise(x, at)))
            return self.known[-1][2]
        self.equal = self.equal and n < len(self.known)
        if self.equal:
            seen, level, prediction = self.known[n]
            if at == level and torch.equal(x, seen):
                return prediction
            self.equal = False
        return self.denoise(x, at)


def parameters(steps: int) -> int:
    """Return how many numbers `changed` takes: S - 1 of the times, the shift, and the corrections."""
    return steps + steps * corrections_a_step(steps)


def corrections_a_step(steps: int) -> int:
    """Return how many corrections a step has, so that there are at most `MOST` numbers: 2, 1 or none."""
    return next((each for each in (2, 1) if steps * (1 + each) <= MOST), 0)


def changed(method: Method, theta: Sequence[float] | Array) -> Method:
    """Return a method with other times, shift and corrections; zeros return it as it is.

    With r_n = t_n / t_(n-1) = sigmoid(u_n), theta first holds what is added to u_1 ... u_(S-1): times keep their order
    (GS, Eq. 14). The first time stays. The next number is added to the shift, the others to the corrections.
    """
    if not any(map(float, theta)):
        return method
    S = len(method.times)
    each = corrections_a_step(S)
    times, ratio = [method.times[0]], 1.0
    for n in range(1, S):
        r = method.times[n] / method.times[n - 1]
        ratio *= _moved(r, float(theta[n - 1])) / _moved(r, 0.0)
        times.append(method.times[n] * ratio)
    shift = min(max(method.shift + float(theta[S - 1]), -0.5), 0.5)
    rows = np.asarray(theta[S:], dtype=np.float64).reshape(S, each) if each else np.zeros((S, 0))
    before = method.corrections or ((0.0,) * each,) * S
    corrections = tuple(
        tuple(float(np.clip(a + b, -1, 1)) for a, b in zip(old, new, strict=True))
        for old, new in zip(before, rows, strict=True)
    )
    return replace(method, times=tuple(times), shift=shift, corrections=corrections if each else ())


def _moved(r: float, by: float) -> float:
    return float(1 / (1 + (1 - r) / r * np.exp(-by)))


def refine(method: Method, distance: Distance, rounds: int = 2) -> Method:
    """Return a method whose images are closer to the teacher's, by Gauss-Newton; the method itself if it finds none.

    The Jacobian is taken by finite differences through `ddim.samplers.trajectory`: for so few numbers they cost less
    than gradients, and they hold for any solver. It serves for `REUSED` more steps, corrected by what the steps before
    have shown (Broyden, Math. Comp. 19, 1965).

    Args:
        method: where it starts: a plain method, or one that was refined before.
        distance: what to reduce.
        rounds: number of Jacobians.
    """
    theta = np.zeros(parameters(len(method.times)))
    for _ in range(rounds if len(theta) <= MOST else 0):
        remembered = Remembered(distance.denoise)
        base = distance.residuals(changed(method, theta), remembered)
        jacobian = _jacobian(method, theta, base, distance, remembered)
        before = theta
        for _ in range(1 + REUSED):
            tried = []
            for step in _steps(jacobian, base, theta):
                residuals = distance.residuals(changed(method, theta + step), remembered.again())
                if np.isfinite(residuals).all():
                    tried.append((_cost(residuals, theta + step), step, residuals))
            if not tried:
                break
            tried.sort(key=lambda trial: trial[0])
            for _, step, residuals in reversed(tried):  # Broyden's formula, that of the best step last
                jacobian += np.outer(residuals - base - jacobian @ step, step) / max(float(step @ step), TINY)
            cost, step, residuals = tried[0]
            if cost < _cost(base, theta):
                theta, base = theta + step, residuals
        if theta is before:
            break
    found = f"{method.found.removesuffix(', refined')}, refined"
    return replace(changed(method, theta), found=found) if theta.any() else method


def _jacobian(method: Method, theta: Array, base: Array, distance: Distance, remembered: Remembered) -> Array:
    """Return the derivatives of the residuals, (R, P), by finite differences at `theta`, where they are `base`."""
    columns = []
    for step in STEP * np.eye(len(theta)):
        columns.append((distance.residuals(changed(method, theta + step), remembered.again()) - base) / STEP)
    return np.stack(columns, axis=1)


def _steps(jacobian: Array, base: Array, theta: Array) -> Iterator[Array]:
    """Yield a step of Gauss-Newton for each damping, the longest first."""
    curvature = jacobian.T @ jacobian
    scale = np.sqrt(curvature.diagonal() * curvature.diagonal().max())
    slope = jacobian.T @ base + ANCHOR * theta
    for damping in DAMPING:
        lifted = curvature + np.diag(ANCHOR + damping * scale)
        yield np.asarray(np.linalg.solve(lifted, -slope), np.float64)


def _cost(residuals: Array, theta: Array) -> float:
    return float(np.square(residuals).sum() + ANCHOR * np.square(theta).sum())
