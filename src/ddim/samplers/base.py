"""What a sampler is, the registry of samplers, and the loop that runs every sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Noise
from ddim.registry import Registry
from ddim.schedule import Schedule

State = Any
"""What a sampler keeps between two steps; None for a one-step method."""


class Sampler(ABC):
    """A method that moves images from one noise level to another: differentiable arithmetic in any dtype.

    The order of convergence is measured on smoothly uneven levels, with the first steps included; for a stochastic
    sampler it is that of the mean and of the variance.
    """

    order: int = 1  # of convergence: the error at the end falls as S^-order
    stochastic: bool = False  # whether `step` draws noise
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # other options that `ddim verify` checks too

    def calls(self, levels: Sequence[Level]) -> int:
        """Return the exact number of network calls along `levels`; by default one per step."""
        return len(levels) - 1

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        """Return the state before the first step.

        Args:
            levels: all levels of the trajectory, in order.
            schedule: for solvers that evaluate the network between two levels.
        """
        return None

    def __repr__(self) -> str:
        """Show the arguments of `__init__` that are kept under their own names."""
        kept = [name for name in signature(type(self)).parameters if name in vars(self)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in kept)})"

    @abstractmethod
    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Move `x` from level `at` to level `to`.

        Args:
            denoise: the network, as a function (x, level) -> Prediction.
            x: images at level `at`, (B, C, H, W).
            at, to: two consecutive levels of those given to `init`. With one level per image, made `like(x)`.
            state: what `init` or the previous step returned.
            noise: standard normal draws; may be None for a deterministic sampler.

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
    """Step through the levels and yield the images at levels[1], levels[2], ..., (B, C, H, W) each.

    Args:
        sampler, denoise: the method and the network.
        x: images at the first level, (B, C, H, W).
        levels: noisiest first to generate, clean first to invert; at least two.
        noise: standard normal draws, required by a stochastic sampler.
        schedule: for solvers that evaluate the network between two levels.

    Raises:
        UserError: at the call, for a stochastic sampler without noise or for fewer than two levels.
    """
    if sampler.stochastic and noise is None:
        raise UserError(f"{sampler} draws noise at each step; give it a `noise`, for instance ddim.noise.ImageNoise.")
    if len(levels) < 2:
        raise UserError("A trajectory needs at least two levels: one to start from and one to reach.")

    def steps(x: Tensor) -> Iterator[Tensor]:  # a generator, so that the checks above run at the call
        state = sampler.init(levels, schedule)
        for at, to in pairwise(levels):
            x, state = sampler.step(denoise, x, at.like(x), to.like(x), state, noise)
            yield x

    return steps(x)


samplers: Registry[Callable[..., Sampler]] = Registry("sampler")
"""name -> the class, or a function that makes the sampler; each works without arguments."""

register = samplers.register


def get(name: str, **options: Any) -> Sampler:
    """Return a new sampler by its name.

    Args:
        name: one of `names()`.
        options: arguments of its class, e.g. get("ddim", eta=0.5). Every sampler works without options.

    Raises:
        UserError: an unknown name, an option that the sampler does not have, or a value out of range.
    """
    return samplers.create(name, **options)  # type: ignore[no-any-return]


def names() -> list[str]:
    """Return the names that `get` takes."""
    return list(samplers)
