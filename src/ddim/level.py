"""The types that every other file uses: a noise level, and a network's prediction at it."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Level(NamedTuple):
    """One noise level: x_t = alpha x_0 + sigma eps.

    Attributes:
        t: time, a real number in [0, T]; 0 is clean.
        alpha: signal rate, at least 0. On a schedule that preserves variance, such as DDPM's, sqrt(alpha-bar_t).
        sigma: noise rate, at least 0. On such a schedule, sqrt(1 - alpha-bar_t).

    All three are float64: either 0-d on the CPU, one level for the whole batch (`alpha * x` then keeps the dtype
    and the device of x), or (B, 1, 1, 1), one level per image, for training and for DDIM's step.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    def like(self, x: Tensor) -> "Level":
        """Return the level for arithmetic with `x`: rates per image get its dtype and device, 0-d ones stay."""
        return Level(self.t, self.alpha.to(x), self.sigma.to(x)) if self.t.ndim else self


class Prediction(NamedTuple):
    """The predicted clean image and noise, consistent with each other: x_t = alpha x0 + sigma eps."""

    x0: Tensor
    eps: Tensor


Denoise = Callable[[Tensor, Level], Prediction]
"""(x_t, level) -> the predicted clean image and noise. Samplers know a network only as this function."""

Noise = Callable[[Tensor], Tensor]
"""Return a standard normal draw with the shape, dtype and device of the argument."""
