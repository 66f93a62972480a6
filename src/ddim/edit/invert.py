"""Inversion: from an image to the noise that makes it, the same step on a reversed ladder (DDIM, section 4.3)."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Prediction
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule


def invert(
    sampler: Sampler, denoise: Denoise, x0: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Iterator[Tensor]:
    """Walk up the levels from a clean image, the Euler step of Eq. 14 run the other way.

    Args:
        sampler: a deterministic one.
        denoise: the network, unclipped: clipping cannot be undone.
        x0: clean images in [-1, 1], (B, C, H, W).
        levels: as `trajectory` takes them, noisiest first and ending at t = 0.
        schedule: for solvers that evaluate between levels.

    Yields:
        The images at each level upwards; the last is x_T.

    Raises:
        UserError: a stochastic sampler, which has no inverse.
    """
    if sampler.stochastic:
        raise UserError(
            f"{sampler} injects noise and cannot be inverted; use a deterministic one such as DDIM(eta=0)."
        )
    clean, first = levels[-1], levels[-2]

    def never_at_zero(x: Tensor, at: Level) -> Prediction:
        # At t = 0 the image is its own x0, and the network, never trained there, is asked at the first level above.
        return Prediction(x, denoise(x, first).eps) if at.t is clean.t else denoise(x, at)

    return trajectory(sampler, never_at_zero, x0, levels[::-1], schedule=schedule)
