"""UniPC: a predictor, and a corrector that reuses the prediction at the end of each step (arXiv 2302.04867)."""

from collections.abc import Sequence
from typing import Literal

from ddim.errors import UserError
from ddim.samplers.base import register
from ddim.samplers.multistep import Exponential
from ddim.samplers.planned import FloatLevel


@register("unipc")
class UniPC(Exponential):
    """UniPC-p, the unified predictor-corrector for predictions of x0: the default, good at any number of calls.

    With h = lambda_s - lambda_t, r_m = (lambda_m - lambda_t) / h and D_m = x0_m - x0_t, one step from t to s is

        base  = (sigma_s / sigma_t) x^c_t + alpha_s (1 - e^-h) x0_t                     (DDIM)
        x_s   = base + alpha_s B(h) sum_(m < p)  a_m D_m / r_m                          (UniP-p, Algorithm 2)
        x^c_s = base + alpha_s B(h) sum_(m <= p) a_m D_m / r_m                          (UniC-p, Algorithm 1)

    The D_m with m < p are those of earlier steps (r_m < 0); D_p is that of the prediction at x_s (r_p = 1). The
    next step starts from the corrected x^c_s and keeps that prediction: one call per step. Deterministic.

    A step has fewer D_m where fewer may be used, and its corrector then has fewer too (`Exponential.history`): the
    first step has none and is DDIM's; the last steps of a short trajectory have a lower p (`FEW_STEPS`); a step that
    is too long for extrapolation (`MAX_EXTRAPOLATION`) and a step from pure noise or to t = 0 are DDIM's.

    The a_m solve sum_m a_m r_m^(k-1) = h k! phi_(k+1)(-h) / B(h) for k = 1, 2, ... Then B(h) cancels in a_m B(h),
    and the sum is the exact integral of a polynomial in lambda (`Multistep.weights`). For a single D_m, in the
    predictor of the second step and in the corrector of a DDIM step, the paper sets a_1 = 1/2 instead, and B(h)
    matters.

    The attribute `order` is the order of convergence, as for every `Sampler`, measured: DDIM's first step limits it
    to 2, or to 3 with the corrector. UniPC(order=2).order is therefore 3; its argument is kept as `p`.

    Args:
        order: the paper's p, the order of the predictor, from 1 to 3.
        variant: B(h): "bh1" is h, "bh2" is e^h - 1 (1 - e^-h for predictions of x0).
        corrector: whether UniC-p is used.

    Raises:
        UserError: another order or variant.
    """

    variants = ({"order": 1}, {"order": 2}, {"variant": "bh1"})

    def __init__(self, order: int = 3, variant: Literal["bh1", "bh2"] = "bh2", corrector: bool = True) -> None:
        if order not in (1, 2, 3):
            raise UserError(f"UniPC has the orders 1, 2 and 3; got {order!r}.")
        if variant not in ("bh1", "bh2"):
            raise UserError(f"The variants of UniPC are 'bh1' and 'bh2'; got {variant!r}.")
        self.p, self.variant, self.corrector = order, variant, corrector
        self.nodes = self.memory = self.p
        self.order = min(self.p + 1, 3) if corrector else min(self.p, 2)  # of convergence

    def weights(self, at: FloatLevel, to: FloatLevel, others: Sequence[FloatLevel]) -> tuple[float, ...]:
        """Return alpha_s B(h) a_m / r_m, the weight of D_m, for each m in `others`."""
        if len(others) > 1:
            return super().weights(at, to, others)
        h = to.lam - at.lam
        B = h if self.variant == "bh1" else 1 - to.sigma * at.alpha / (at.sigma * to.alpha)  # 1 - e^-h
        return (to.alpha * B / 2 * h / (others[0].lam - at.lam),)  # a_1 = 1/2

    def corrects(self, levels: Sequence[FloatLevel], n: int) -> bool:
        return self.corrector

    def __repr__(self) -> str:
        return f"UniPC(order={self.p}, variant={self.variant!r}, corrector={self.corrector})"
