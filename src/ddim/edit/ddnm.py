"""DDNM: the measurement replaces what the operator sees of x0, and the network fills its null space."""

from torch import Tensor

from ddim.edit.operators import Operator
from ddim.edit.posterior import register
from ddim.edit.solve import per_image
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0


@register("ddnm")
def ddnm(denoise: Denoise, y: Tensor, operator: Operator, noise_std: float = 0.0) -> Denoise:
    """Return the `Denoise` with x0' = x0 + w A^+ (y - A x0) (DDNM, arXiv 2212.00490, Eq. 13).

    Without noise w = 1, and A x0' = y at every level. With noise, w = min(1, sigma / (alpha noise_std)), so that what
    y adds to x_t is at most the noise there (DDNM+, section 3.3, with one weight for all singular values).
    eps follows x0', as in the paper's Algorithm 1.

    The correction ignores how pixels vary together, so the mean and the covariance of the samples are biased. It takes
    no gradients: a call costs what a call of the network costs.

    Args:
        denoise, y, operator, noise_std: see `ddim.edit.posterior`.
    """

    def wrapped(x: Tensor, at: Level) -> Prediction:
        x0 = denoise(x, at).x0
        correction = operator.pseudo_inverse(y - operator.forward(x0))
        if noise_std:
            correction = per_image((at.sigma / (at.alpha * noise_std)).clamp(max=1), x0) * correction
        return from_x0(x, at, x0 + correction)

    return wrapped
