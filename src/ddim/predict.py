"""Parameterisations of the network's output: the noise eps, the clean image x0, or a velocity, v or a flow's.

Each determines x0 and eps, as x_t = alpha x_0 + sigma eps: v and the flow's at every level, eps for alpha > 0, and x0
for sigma > 0. The functions take x_t (B, C, H, W), its level, and an output shaped like x_t.
"""

from collections.abc import Callable

from torch import Tensor

from ddim.level import Level, Prediction
from ddim.registry import Registry


def from_eps(x: Tensor, at: Level, eps: Tensor) -> Prediction:
    """x0 = (x_t - sigma eps) / alpha (DDIM, Eq. 9)."""
    return Prediction((x - at.sigma * eps) / at.alpha, eps)


def from_x0(x: Tensor, at: Level, x0: Tensor) -> Prediction:
    """eps = (x_t - alpha x0) / sigma (DDIM, Eq. 4, solved for eps)."""
    return Prediction(x0, (x - at.alpha * x0) / at.sigma)


def from_v(x: Tensor, at: Level, v: Tensor) -> Prediction:
    """x0 = alpha x_t - sigma v, eps = sigma x_t + alpha v (arXiv 2202.00512, appendix D).

    alpha^2 + sigma^2 is 1 on a variance preserving schedule; the division keeps the formula right on others.
    """
    radius2 = at.alpha**2 + at.sigma**2
    return Prediction((at.alpha * x - at.sigma * v) / radius2, (at.sigma * x + at.alpha * v) / radius2)


def from_flow(x: Tensor, at: Level, u: Tensor) -> Prediction:
    """x0 = (x_t - sigma u) / (alpha + sigma), eps = (x_t + alpha u) / (alpha + sigma), for u = eps - x0.

    On a flow's straight line alpha + sigma = 1, and for T = 1 u is dx/dt (arXiv 2209.03003); the division keeps the
    formula right on other schedules.
    """
    total = at.alpha + at.sigma
    return Prediction((x - at.sigma * u) / total, (x + at.alpha * u) / total)


predictions: Registry[Callable[[Tensor, Level, Tensor], Prediction]] = Registry("parameterisation", extensible=False)
predictions.update({"eps": from_eps, "x0": from_x0, "v": from_v, "flow": from_flow})


def target(predicts: str, x0: Tensor, at: Level, eps: Tensor) -> Tensor:
    """Return the training target of a network that predicts something.

    Args:
        predicts: "eps", "x0", "v" = alpha eps - sigma x0, or "flow" = eps - x0.
        x0, at, eps: clean images (B, C, H, W), their noise levels, and their noise, shaped like `x0`.
    """
    return {"eps": eps, "x0": x0, "v": at.alpha * eps - at.sigma * x0, "flow": eps - x0}[predicts]
