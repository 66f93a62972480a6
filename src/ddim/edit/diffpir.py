"""DiffPIR: a proximal step towards the measurement after each prediction."""

from torch import Tensor

from ddim.edit.operators import Operator
from ddim.edit.posterior import register
from ddim.errors import number
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0


@register("diffpir")
def diffpir(denoise: Denoise, y: Tensor, operator: Operator, noise_std: float = 0.0, strength: float = 1.0) -> Denoise:
    """Return the `Denoise` with the proximal step of DiffPIR (arXiv 2305.08995, Algorithm 1).

        x0' = argmin_x |y - A x|^2 / (2 s^2) + |x - x0|^2 / (2 r^2 / strength),    r = sigma / alpha
            = x0 + A^T (A A^T + strength s^2 / r^2)^-1 (y - A x0)

    The inverse has a closed form for masks, boxes, super-resolution, blur and grey; conjugate gradients find it for
    other operators. Without noise it is the pseudo-inverse, and the method is DDNM.

    The step takes r^2 for the variance of every pixel given x_t, so the mean and the covariance of the samples are
    biased. It takes no gradients: a call costs what a call of the network costs.

    Args:
        denoise, y, operator, noise_std: see `ddim.edit.posterior`.
        strength: lambda, how much the network's x0 weighs against y, above 0; the paper takes 1 to 25.

    Raises:
        UserError: a strength out of range.
    """
    strength = number("The strength of DiffPIR", strength, float, 1e-6, 1e6)

    def wrapped(x: Tensor, at: Level) -> Prediction:
        x0 = denoise(x, at).x0
        ridge = strength * (noise_std * at.alpha / at.sigma) ** 2
        return from_x0(x, at, x0 + operator.adjoint(operator.solve(y - operator.forward(x0), ridge)))

    return wrapped
