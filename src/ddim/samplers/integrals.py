"""Integrals of a polynomial against what carries x from one level to the next, as weights of its values."""

import math
from collections.abc import Sequence


def phi(k: int, z: float) -> float:
    """phi_k(z) = integral over [0, 1] of e^((1 - u) z) u^(k - 1) / (k - 1)! du; phi_0(z) = e^z.

    The functions of exponential integrators (Hochbruck & Ostermann 2010): phi_1(z) = (e^z - 1) / z.
    """
    if abs(z) < 1:  # the recurrence below cancels there
        return sum(z**n / math.factorial(n + k) for n in range(20))
    value = math.exp(z)
    for j in range(k):
        value = (value - 1 / math.factorial(j)) / z  # phi_(j+1) = (phi_j - 1 / j!) / z
    return value


def weights(nodes: Sequence[float], moments: Sequence[float]) -> tuple[float, ...]:
    """The w_j for which sum_j w_j (p(r_j) - p(0)) is the integral of p - p(0), for all p of degree len(nodes).

    Args:
        nodes: r_j, distinct and not 0, in units of the step: its start is 0 and its end is 1.
        moments: the integrals of u, u^2, ... against the kernel, one for each node.
    """
    found = []
    for j, node in enumerate(nodes):
        polynomial, scale = [1.0], node  # u times the product of (u - r_k), lowest power first; its value at r_j
        for other in (r for k, r in enumerate(nodes) if k != j):
            polynomial = [a - other * b for a, b in zip([0.0, *polynomial], [*polynomial, 0.0], strict=True)]
            scale *= node - other
        found.append(sum(c * moment for c, moment in zip(polynomial, moments, strict=True)) / scale)
    return tuple(found)
