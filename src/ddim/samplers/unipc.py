"""UniPC: each step is taken again once the network has spoken at its end (arXiv 2302.04867)."""

from collections.abc import Sequence
from typing import Literal

from ddim.errors import UserError
from ddim.samplers.exponential import Exponential
from ddim.samplers.point import Point
from ddim.schedule import Schedule


class UniPC(Exponential):
    """The unified predictor and corrector: the first to try at any number of calls.

    The predictor UniP-p goes through p predictions of x0; the corrector UniC-p adds the newest one, at the end of
    the step, and moves the image before the next step starts from it, so one call a step is all it needs.
    Deterministic. Where p coefficients solve p equations, B(h) cancels and the polynomial is integrated exactly;
    B(h) remains in the two cases for which the paper puts 1/2 for a single coefficient.

    Args:
        order: p, 1 to 3.
        variant: B(h), "bh2" for e^h - 1 or "bh1" for h (of x0, 1 - e^-h and h).
        corrector: whether UniC is there.

    Raises:
        UserError: an order or a variant that is not there.
    """

    variants = ({"order": 1}, {"order": 2}, {"variant": "bh1"})

    def __init__(self, order: int = 3, variant: Literal["bh1", "bh2"] = "bh2", corrector: bool = True) -> None:
        if order not in (1, 2, 3):
            raise UserError(f"UniPC has the orders 1, 2 and 3; got {order!r}.")
        if variant not in ("bh1", "bh2"):
            raise UserError(f"The variants of UniPC are 'bh1' and 'bh2'; got {variant!r}.")
        self.nodes, self.memory = order, order
        self.variant, self.corrector = variant, corrector
        # Measured. The first step is DDIM's: second order for the whole walk, third where it is corrected.
        self.order = min(order + 1, 3) if corrector else min(order, 2)

    def weights(
        self, at: Point, to: Point, others: Sequence[Point], schedule: Schedule | None
    ) -> tuple[float, ...]:
        if len(others) != 1:
            return super().weights(at, to, others, schedule)
        h = to.lam - at.lam
        scale = h if self.variant == "bh1" else 1 - to.sigma * at.alpha / (at.sigma * to.alpha)  # B(h)
        return (to.alpha * scale / 2 * h / (others[0].lam - at.lam),)  # rho_1 = 1/2

    def corrects(self, walk: Sequence[Point], n: int) -> bool:
        return self.corrector

    def __repr__(self) -> str:
        return f"UniPC(order={self.nodes}, variant={self.variant!r}, corrector={self.corrector})"
