"""DEIS: eps as a polynomial in time, integrated exactly (arXiv 2204.13902)."""

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ddim.errors import UserError
from ddim.samplers.base import register
from ddim.samplers.multistep import Exponential
from ddim.samplers.planned import FloatLevel, Step, with_times
from ddim.schedule import Schedule

GAUSS = np.polynomial.legendre.leggauss(6)
"""Nodes and weights on [-1, 1]: on an interval between two training steps, sigma / alpha is smooth."""

Floats = npt.NDArray[np.float64]


@register("deis")
class DEIS(Exponential):
    """tAB-DEIS: the noise, extrapolated in time through the latest predictions.

        x_s = (alpha_s / alpha_t) x_t + alpha_s int P(tau) d rho(tau),   rho = sigma / alpha

    where P is the polynomial in tau through the latest eps_theta. One call per step, deterministic. The second step
    corrects the first at no extra call; otherwise the method would be second order overall. The integral is a Gauss
    quadrature over each interval between two training steps. Use it for 10 to 20 calls, on spacings with many times
    near 0.

    Args:
        nodes: number of predictions that the polynomial passes through, 1 to 4: the paper's tAB3 has 4.
        variable: variable of the polynomial, "t"; or "lambda", which needs no schedule.
        corrected: whether the first step is corrected.

    Raises:
        UserError: another number of nodes or variable.
    """

    space = "eps"
    quadratures: dict[tuple[float, float], tuple[Floats, Floats]]

    def __init__(self, nodes: int = 3, variable: Literal["t", "lambda"] = "t", corrected: bool = True) -> None:
        if nodes not in (1, 2, 3, 4) or variable not in ("t", "lambda"):
            raise UserError(f"DEIS has 1 to 4 nodes, in 't' or 'lambda'; got {nodes!r} and {variable!r}.")
        self.nodes, self.memory = nodes, max(1, nodes - 1)
        self.in_time, self.corrected = variable == "t", corrected
        self.order = min(nodes, 3 if corrected else 2)

    def corrects(self, levels: Sequence[FloatLevel], n: int) -> bool:
        if n == len(levels) - 2:  # DDIM's last step would show the x0 of the corrected x, off by its change / alpha
            return False
        return self.corrected and self.nodes > 2 and not self.history(levels, n - 1)

    def variable(self, level: FloatLevel) -> float:
        return level.t if self.in_time else level.lam

    def plan(self, levels: Sequence[FloatLevel], schedule: Schedule | None) -> list[Step]:
        if not self.in_time:
            return super().plan(levels, schedule)
        planner = copy(self)  # the quadratures belong to these levels; the sampler itself is not changed
        planner.quadratures = _quadratures([level.t for level in levels], with_times(schedule, levels, self))
        return super(DEIS, planner).plan(levels, schedule)

    def moments(self, at: FloatLevel, to: FloatLevel, count: int) -> list[float]:
        """alpha_s int u^k d rho = alpha_s (rho_s - k int u^(k-1) rho du), by parts; u = (tau - t) / (s - t)."""
        if not self.in_time:
            return super().moments(at, to, count)
        tau, rho_dtau = self.quadratures[at.t, to.t]
        u, rho_du = (tau - at.t) / (to.t - at.t), rho_dtau / abs(to.t - at.t)
        return [to.alpha * (to.rho - k * float(np.sum(rho_du * u ** (k - 1)))) for k in range(1, count + 1)]

    def __repr__(self) -> str:
        variable = "t" if self.in_time else "lambda"
        return f"DEIS(nodes={self.nodes}, variable={variable!r}, corrected={self.corrected})"


def _quadratures(times: Sequence[float], schedule: Schedule) -> dict[tuple[float, float], tuple[Floats, Floats]]:
    """For each step (t, s): the nodes tau of its quadrature, and rho(tau) times their weights."""
    nodes, weights, steps = [], [], schedule.times.numpy()
    for low, high in map(sorted, pairwise(times)):
        cuts = np.concatenate([[low], steps[(steps > low) & (steps < high)], [high]])
        half_width = np.diff(cuts)[:, None] / 2
        nodes.append((half_width * (GAUSS[0] + 1) + cuts[:-1, None]).ravel())
        weights.append((half_width * GAUSS[1]).ravel())
    _, alpha, sigma = schedule(torch.as_tensor(np.concatenate(nodes)))
    rhos = np.split((sigma / alpha).flatten().numpy(), np.cumsum([len(tau) for tau in nodes])[:-1])
    return {step: (tau, r * w) for step, tau, r, w in zip(pairwise(times), nodes, rhos, weights, strict=True)}
