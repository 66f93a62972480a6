"""Posterior sampling: any sampler draws from p(x_0 | y) if its `Denoise` is E[x_0 | x_t, y].

Each method is one file with a function (denoise, y, operator, noise_std, **options) -> Denoise, registered by its
decorator.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ddim.edit.operators import Operator, check_operator
from ddim.errors import number
from ddim.level import Denoise
from ddim.registry import Registry

methods: Registry[Callable[..., Denoise]] = Registry("method of restoration")
"""name -> the function that wraps a `Denoise`; each works without options."""

register = methods.register


def posterior(
    denoise: Denoise, y: Tensor, operator: Operator, noise_std: float = 0.0, method: str = "pigdm", **options: Any
) -> Denoise:
    """Return a `Denoise` that takes the measurement y = A x_0 + noise_std z into account, for any sampler.

    Args:
        denoise: the prior: the network without clipping, whose Jacobian "pigdm" takes. Clip the result, if at all.
        y: (B, ...) as `operator.forward` returns it, one measurement for each image of the batch.
        operator: A, see `ddim.edit.operators`.
        noise_std: standard deviation of the noise in y, at least 0.
        method: a name from `ddim.edit.methods`: "pigdm", exact for Gaussian images, takes gradients of the network;
            "ddnm" and "diffpir" take none.
        options: of the method.

    Raises:
        UserError: an unknown method or option, an operator or a noise_std out of range.
    """
    check_operator(operator)
    noise_std = number("noise_std", noise_std, float, 0)
    return methods.create(method, denoise, y, operator, noise_std, **options)  # type: ignore[no-any-return]
