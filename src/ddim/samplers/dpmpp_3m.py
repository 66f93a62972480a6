"""DPM-Solver++(3M), with the coefficient that its expansion has (arXiv 2211.01095)."""

from collections.abc import Sequence

from ddim.samplers.point import Point
from ddim.samplers.unipc import UniPC


class DPMpp3M(UniPC):
    """The three-step solver: a parabola of x0 in lambda, integrated exactly.

    x_s = (sigma_s / sigma_t) x_t + alpha_s (h phi_1(-h) x0 + h^2 phi_2(-h) x0' + h^3 phi_3(-h) x0'')

    One call a step, deterministic. The published code has h^3 phi_3(-h) x0'' / 2, for its second difference is
    already halved, which leaves it at second order; a test shows both. A first step of first order would keep the
    whole walk at second order: here the second step begins by correcting it, at no call (UniC, arXiv 2302.04867).
    In other words, this is UniPC-3 with its corrector in the first step alone. For 15 calls and more.

    Args:
        corrected: whether the first step is corrected.
    """

    def __init__(self, corrected: bool = True) -> None:
        super().__init__(order=3, corrector=corrected)

    def corrects(self, walk: Sequence[Point], n: int) -> bool:
        return self.corrector and not self.used(walk, n - 1)

    def __repr__(self) -> str:
        return f"DPMpp3M(corrected={self.corrector})"
