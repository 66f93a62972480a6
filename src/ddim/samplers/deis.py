"""DEIS: eps as a polynomial in time, integrated exactly (arXiv 2204.13902)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch

from ddim.errors import UserError
from ddim.samplers.exponential import Exponential
from ddim.samplers.plan import Move
from ddim.samplers.point import Point, needed
from ddim.schedule import Schedule

GAUSS = np.polynomial.legendre.leggauss(6)
"""Nodes and weights on [-1, 1]: on an interval between two integers, sigma / alpha is smooth."""


class DEIS(Exponential):
    """tAB-DEIS: the noise, extrapolated in time through the latest predictions.

    x_s = (alpha_s / alpha_t) x_t + alpha_s int P(tau) d rho(tau), rho = sigma / alpha (Eqs. 14 and 15)

    One call a step, deterministic; the first step is corrected by the second at no call, as it would else keep the
    walk at second order. The integral is a Gauss quadrature over each interval between two integers, on which the
    schedule is smooth. For 10 to 20 calls on ladders with many times near 0.

    Args:
        nodes: through how many predictions the polynomial goes, 1 to 4: tAB3 of the paper has 4.
        variable: what the polynomial is in, "t"; or "lambda", which needs no schedule.
        corrected: whether the first step is corrected.

    Raises:
        UserError: a number of nodes or a variable that is not there.
    """

    space: ClassVar[Literal["x0", "eps"]] = "eps"

    def __init__(self, nodes: int = 3, variable: Literal["t", "lambda"] = "t", corrected: bool = True) -> None:
        if nodes not in (1, 2, 3, 4) or variable not in ("t", "lambda"):
            raise UserError(f"DEIS has 1 to 4 nodes, in 't' or 'lambda'; got {nodes!r} and {variable!r}.")
        self.nodes, self.memory = nodes, max(1, nodes - 1)
        self.in_time, self.corrected = variable == "t", corrected
        self.order = min(nodes, 3 if corrected else 2)

    def corrects(self, n: int) -> bool:
        return self.corrected and n == 1 and self.nodes > 2

    def correction(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Move | None:
        if n == len(walk) - 2:  # DDIM's last step would show the x0 of the corrected x, off by its change / alpha
            return None
        return super().correction(walk, n, schedule)

    def variable(self, point: Point) -> float:
        return point.t if self.in_time else point.lam

    def moments(self, at: Point, to: Point, count: int, schedule: Schedule | None) -> list[float]:
        """alpha_s int u^k d rho = alpha_s (rho_s - k int u^(k-1) rho du), by parts; u = (tau - t) / (s - t)."""
        if not self.in_time:
            return super().moments(at, to, count, schedule)
        low, high = sorted((at.t, to.t))
        cuts = [low, *range(int(low) + 1, int(np.ceil(high))), high]
        tau, mass = np.concatenate(
            [((b - a) / 2 * (GAUSS[0] + 1) + a, (b - a) / 2 * GAUSS[1]) for a, b in pairwise(cuts)], axis=1
        )
        _, alpha, sigma = needed(schedule, self)(torch.as_tensor(tau))
        rho = (sigma / alpha).flatten().numpy()
        u = (tau - at.t) / (to.t - at.t)
        mass = mass / (high - low)
        return [to.alpha * (to.rho - k * float(np.sum(mass * u ** (k - 1) * rho))) for k in range(1, count + 1)]

    def __repr__(self) -> str:
        variable = "t" if self.in_time else "lambda"
        return f"DEIS(nodes={self.nodes}, variable={variable!r}, corrected={self.corrected})"
