"""PiGDM by moment matching: the covariance of x0 given x_t, from the network's Jacobian, weighs the measurement."""

import torch
from torch import Tensor

from ddim.edit.operators import Operator
from ddim.edit.posterior import register
from ddim.edit.solve import conjugate_gradients, per_image
from ddim.errors import number
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0
from ddim.samplers.planned import PURE_NOISE


@register("pigdm")
def pigdm(denoise: Denoise, y: Tensor, operator: Operator, noise_std: float = 0.0, iterations: int = 5) -> Denoise:
    """Return the `Denoise` with the mean of x0 given x_t and y if x0 given x_t is Gaussian (arXiv 2310.06721).

        x0' = x0 + C A^T (A C A^T + s^2 I)^-1 (y - A x0),    C = Cov[x0 | x_t] = (sigma^2 / alpha) dx0/dx

    This is PiGDM's guidance (openreview.net/forum?id=9_gsMA8MRKQ) with the true covariance in place of r^2 I. For
    Gaussian images and the exact denoiser, x0' is E[x0 | x_t, y], so samples have the right mean and covariance.

    The system is divided by sigma^2, which keeps it regular at the last steps, and solved by conjugate gradients. Each
    iteration, and the correction itself, takes one product with the Jacobian: a backward pass of the network. Without
    noise, what the iterations leave of y - A x0' is corrected as in DDNM, so that A x0' = y.

    Args:
        denoise: the prior, differentiable in x. Without clipping: a clipped pixel would count as certain.
        y, operator, noise_std: see `ddim.edit.posterior`.
        iterations: of conjugate gradients, from 1 to 1000.

    Raises:
        UserError: iterations out of range.
    """
    iterations = number("The iterations of PiGDM", iterations, int, 1, 1000)

    def wrapped(x: Tensor, at: Level) -> Prediction:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            predicted = denoise(leaf, at).x0
        x0 = predicted.detach()

        def covariance(v: Tensor) -> Tensor:
            """Return C v / sigma^2."""
            (product,) = torch.autograd.grad(predicted, leaf, v, retain_graph=True)
            return product / at.alpha.clamp(min=PURE_NOISE)

        def product(v: Tensor) -> Tensor:
            return operator.forward(covariance(operator.adjoint(v))) + per_image((noise_std / at.sigma) ** 2, v) * v

        def inverse(v: Tensor) -> Tensor:
            """Return the solution for pixels that vary independently and alike."""
            return operator.solve(v, (noise_std * at.alpha / at.sigma) ** 2)

        preconditioner = inverse if operator.closed else None
        v = conjugate_gradients(product, y - operator.forward(x0), iterations, preconditioner)
        x0 = x0 + covariance(operator.adjoint(v))
        if not noise_std:
            x0 = x0 + operator.pseudo_inverse(y - operator.forward(x0))
        return from_x0(x, at, x0)

    return wrapped
