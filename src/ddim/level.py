"""The words that every other file uses: a noise level, and what a network says about an image at it."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Level(NamedTuple):
    """One noise level: x_t = alpha x_0 + sigma eps.

    Attributes:
        t: time, a real number in [0, T]; 0 is clean.
        alpha: signal rate, sqrt(alpha-bar_t).
        sigma: noise rate, sqrt(1 - alpha-bar_t).

    All three are float64: either 0-d on the CPU, one level for the whole batch (PyTorch then keeps the
    image's dtype and device in `alpha * x`), or (B, 1, 1, 1), one level per image.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    def like(self, x: Tensor) -> "Level":
        """The level ready for arithmetic with `x`: rates per image take its dtype and device, 0-d ones stay."""
        return Level(self.t, self.alpha.to(x), self.sigma.to(x)) if self.t.ndim else self


class Prediction(NamedTuple):
    """What a network believes: the clean image and the noise, two views of one statement about x_t."""

    x0: Tensor
    eps: Tensor


Denoise = Callable[[Tensor, Level], Prediction]
"""(x_t, level) -> the clean image and the noise in it. Samplers see a network as this and nothing more."""

Noise = Callable[[Tensor], Tensor]
"""A standard normal draw shaped like its argument, in its dtype and on its device."""
