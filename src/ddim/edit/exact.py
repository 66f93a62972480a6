"""Inversion without the error of DDIM's reversed step: by a solver that is its own inverse, or by iteration."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddim.edit.invert import invert
from ddim.errors import UserError, number
from ddim.level import Denoise, Level, Noise
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.samplers.base import State
from ddim.schedule import Schedule


class OBELM(Sampler):
    """O-BELM (arXiv 2410.07273), a two-step method that is its own inverse in the reverse order of levels.

        x_(i-1) / alpha_(i-1) = (g/k)^2 x_(i+1) / alpha_(i+1) + (1 - (g/k)^2) x_i / alpha_i + g (g + k) / k eps(x_i, i)

    With r = sigma / alpha, k = r_i - r_(i+1) is the last step and g = r_(i-1) - r_i the next one. The first step is
    DDIM's. Solved for x_(i+1), it is the same equation with the ends exchanged. So from the last two states of a
    trajectory, the levels in reverse order lead back through all its states.

    Second order. Towards noise, where steps grow, an error grows as the square of a step; towards the image it shrinks.

    Args:
        before: the state and its level before the first one of the trajectory; None begins with DDIM's step.
    """

    order = 2

    def __init__(self, before: tuple[Tensor, Level] | None = None) -> None:
        self.before = before

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        for level in levels:
            if not (level.alpha > 0).all():
                raise UserError(
                    "Exact inversion needs a signal at every level, and this schedule has alpha = 0 at t = "
                    f"{float(level.t.max()):g}; give a spacing that starts after it, or leave out exact."
                )
        return self.before

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Take the step from `at` to `to`, with the state before `at`."""
        eps = denoise(x, at).eps
        here, now, then = x / at.alpha, at.sigma / at.alpha, to.sigma / to.alpha
        g = then - now
        if state is None:
            return to.alpha * (here + g * eps), (x, at)  # DDIM
        earlier, level = state
        k = now - level.sigma / level.alpha
        square = (g / k) ** 2
        return to.alpha * (square * (earlier / level.alpha) + (1 - square) * here + g * (g + k) / k * eps), (x, at)


class Implicit(Sampler):
    """DDIM's step, solved for its start: the step towards noise that a step of DDIM undoes (DDIM, Eq. 13).

        x_t = (alpha_t / alpha_s) (x_s - sigma_s eps(x_t, t)) + sigma_t eps(x_t, t)

    The reversed step of `ddim.edit.invert` takes eps(x_s, s) instead. This one begins there, and iterates.

    Args:
        iterations: K, at least 1, each one more network call in a step.
    """

    def __init__(self, iterations: int) -> None:
        self.iterations = number("The iterations of a refined inversion", iterations, int, 1, 1000)

    def calls(self, levels: Sequence[Level]) -> int:
        return (1 + self.iterations) * (len(levels) - 1)

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Take the step to the noisier level `to`."""
        eps, ratio = denoise(x, at).eps, to.alpha / at.alpha
        for _ in range(self.iterations):
            eps = denoise(ratio * (x - at.sigma * eps) + to.sigma * eps, to).eps
        return ratio * (x - at.sigma * eps) + to.sigma * eps, state


def encode_exactly(
    sampler: Sampler, denoise: Denoise, x0: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Iterator[Tensor]:
    """Yield the code of clean images, x_T and the state before it, (B, 2, C, H, W); arguments as for `invert`.

    `decode_exactly` returns the images up to rounding, in float64 to 1e-13 or so.

    Raises:
        UserError: another sampler than DDIM with eta = 0, the default, or a level with alpha = 0.
    """
    check_plain(sampler, "Exact inversion is O-BELM's")
    states = x0, x0
    for x in invert(OBELM(), denoise, x0, levels, schedule):
        states = states[1], x
    yield torch.stack(states[::-1], dim=1)


def decode_exactly(
    sampler: Sampler, denoise: Denoise, code: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Iterator[Tensor]:
    """Yield the images at each level of the way from a code to clean images; see `encode_exactly`."""
    check_plain(sampler, "Exact inversion is O-BELM's")
    xT, x = code.unbind(1)
    yield x
    if len(levels) > 2:
        yield from trajectory(OBELM((xT, levels[0])), denoise, x, levels[1:])


def check_plain(sampler: Sampler, what: str) -> None:
    """Raise `UserError` for any sampler but DDIM with eta = 0; `what` begins the sentence."""
    if not isinstance(sampler, DDIM) or sampler.stochastic:
        raise UserError(f"{what}, and takes no other sampler than DDIM with eta = 0; got {sampler}. Leave it out.")
