"""DEIS: eps as a polynomial in time, integrated exactly (arXiv 2204.13902)."""

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from ddim.errors import UserError
from ddim.samplers.exponential import Exponential
from ddim.samplers.plan import Step
from ddim.samplers.point import Point, agreed
from ddim.schedule import Schedule

GAUSS = np.polynomial.legendre.leggauss(6)
"""Nodes and weights on [-1, 1]: on an interval between two integers, sigma / alpha is smooth."""

Floats = npt.NDArray[np.float64]


def rho_along(times: Sequence[float], schedule: Schedule) -> dict[tuple[float, float], tuple[Floats, Floats]]:
    """For each step of a walk, quadrature nodes in time, and rho times their weights."""
    nodes, masses = [], []
    for low, high in map(sorted, pairwise(times)):
        cuts = np.unique([low, *range(int(low) + 1, int(np.ceil(high))), high])
        width = np.diff(cuts)[:, None] / 2
        nodes.append((width * (GAUSS[0] + 1) + cuts[:-1, None]).ravel())
        masses.append((width * GAUSS[1]).ravel())
    _, alpha, sigma = schedule(torch.as_tensor(np.concatenate(nodes)))
    rho = np.split((sigma / alpha).flatten().numpy(), np.cumsum([len(tau) for tau in nodes])[:-1])
    return {step: (tau, r * m) for step, tau, r, m in zip(pairwise(times), nodes, rho, masses, strict=True)}


class DEIS(Exponential):
    """tAB-DEIS: the noise, extrapolated in time through the latest predictions.

    x_s = (alpha_s / alpha_t) x_t + alpha_s int P(tau) d rho(tau), rho = sigma / alpha

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
    along: dict[tuple[float, float], tuple[Floats, Floats]]

    def __init__(self, nodes: int = 3, variable: Literal["t", "lambda"] = "t", corrected: bool = True) -> None:
        if nodes not in (1, 2, 3, 4) or variable not in ("t", "lambda"):
            raise UserError(f"DEIS has 1 to 4 nodes, in 't' or 'lambda'; got {nodes!r} and {variable!r}.")
        self.nodes, self.memory = nodes, max(1, nodes - 1)
        self.in_time, self.corrected = variable == "t", corrected
        self.order = min(nodes, 3 if corrected else 2)

    def corrects(self, walk: Sequence[Point], n: int) -> bool:
        if n == len(walk) - 2:  # DDIM's last step would show the x0 of the corrected x, off by its change / alpha
            return False
        return self.corrected and self.nodes > 2 and not self.used(walk, n - 1)

    def variable(self, point: Point) -> float:
        return point.t if self.in_time else point.lam

    def plan(self, walk: Sequence[Point], schedule: Schedule | None) -> list[Step]:
        if not self.in_time:
            return super().plan(walk, schedule)
        planner = copy(self)  # knows rho along this walk; the sampler itself stays as it was
        planner.along = rho_along([point.t for point in walk], agreed(schedule, walk, self))
        return super(DEIS, planner).plan(walk, schedule)

    def moments(self, at: Point, to: Point, count: int, schedule: Schedule | None) -> list[float]:
        """alpha_s int u^k d rho = alpha_s (rho_s - k int u^(k-1) rho du), by parts; u = (tau - t) / (s - t)."""
        if not self.in_time:
            return super().moments(at, to, count, schedule)
        tau, rho_mass = self.along[at.t, to.t]
        u, du = (tau - at.t) / (to.t - at.t), rho_mass / abs(to.t - at.t)
        return [to.alpha * (to.rho - k * float(np.sum(du * u ** (k - 1)))) for k in range(1, count + 1)]

    def __repr__(self) -> str:
        variable = "t" if self.in_time else "lambda"
        return f"DEIS(nodes={self.nodes}, variable={variable!r}, corrected={self.corrected})"
