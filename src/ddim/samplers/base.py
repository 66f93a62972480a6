"""What a sampler is, and the one loop that drives every sampler."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Noise
from ddim.schedule import Schedule

State = Any
"""What a multistep solver remembers between two steps; None for a one-step solver."""


class Sampler(ABC):
    """A way to go from one noise level to another: pure arithmetic on tensors, in any dtype, differentiable.

    Attributes:
        order: the global order of convergence as the steps shrink, measured on smooth ladders of uneven steps with
            the start-up included; of a stochastic sampler, that of the mean and the variance.
        stochastic: whether `step` draws noise.
        variants: options of this class, besides its defaults, that `ddim verify` proves too.
    """

    order: int = 1
    stochastic: bool = False
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    def calls(self, levels: Sequence[Level]) -> int:
        """How many network calls a trajectory down `levels` makes, exactly: here one for each step."""
        return len(levels) - 1

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        """The state before the first step.

        Args:
            levels: all the levels that will be visited.
            schedule: for solvers that evaluate the network between two levels.
        """
        return None

    @abstractmethod
    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Move `x` from level `at` to level `to`.

        Args:
            denoise: the network, seen as (x, level) -> Prediction.
            x: images at level `at`, (B, C, H, W).
            at, to: the two levels; with one level per image, made `like(x)`.
            state: what `init` or the step before returned.
            noise: standard normal draws; None for a sampler that is not stochastic.

        Returns:
            The images at level `to`, and the state for the next step.
        """


def trajectory(
    sampler: Sampler,
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise | None = None,
    schedule: Schedule | None = None,
) -> Iterator[Tensor]:
    """Walk down the levels, yielding the images after each step.

    Args:
        sampler: how to take a step.
        denoise: the network.
        x: images at the first level, (B, C, H, W).
        levels: noisiest first; the last may be any level.
        noise: standard normal draws, which a stochastic sampler needs.
        schedule: for solvers that evaluate between levels.

    Yields:
        The images at levels[1], levels[2], ...

    Raises:
        UserError: at the call, if a stochastic sampler gets no noise or there are fewer than two levels.
    """
    if sampler.stochastic and noise is None:
        raise UserError(
            f"{sampler} draws noise at each step; give it a `noise`, for instance ddim.noise.ImageNoise."
        )
    if len(levels) < 2:
        raise UserError("A trajectory needs at least two levels: one to start from and one to reach.")
    return _walk(sampler, denoise, x, levels, noise, schedule)


def _walk(
    sampler: Sampler,
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise | None,
    schedule: Schedule | None,
) -> Iterator[Tensor]:
    state = sampler.init(levels, schedule)
    for at, to in pairwise(levels):
        x, state = sampler.step(denoise, x, at.like(x), to.like(x), state, noise)
        yield x
