"""Inversion: from an image to the noise that generates it, with the levels in reverse order (DDIM, section 4.3)."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Prediction
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule


def invert(
    sampler: Sampler, denoise: Denoise, x0: Tensor, levels: Sequence[Level], schedule: Schedule | None = None
) -> Iterator[Tensor]:
    """Step from clean images to noise: the sampler's step with the levels in reverse order, DDIM's Eq. 13 backwards.

    Args:
        sampler: a deterministic one.
        denoise: the network, without clipping, which has no inverse.
        x0: clean images in [-1, 1], (B, C, H, W).
        levels: as for `trajectory`, noisiest first and ending at t = 0.
        schedule: for solvers that evaluate the network between two levels.

    Yields:
        The images at each noisier level, (B, C, H, W) each; the last is x_T.

    Raises:
        UserError: a stochastic sampler, which has no inverse.
    """
    if sampler.stochastic:
        raise UserError(f"{sampler} injects noise and cannot be inverted; use a deterministic one such as DDIM(eta=0).")
    first = levels[-2]

    def never_at_zero(x: Tensor, at: Level) -> Prediction:
        if at.t.any():
            return denoise(x, at)
        # The network was not trained at t = 0. There x0 is the image itself; take eps at the first noisy level.
        return Prediction(x, denoise(x, first).eps)

    return trajectory(sampler, never_at_zero, x0, levels[::-1], schedule=schedule)
