"""Conjugate gradients for a batch: each image has its own system."""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]  # linear, (B, ...) -> (B, ...)
TOLERANCE = 1e-12  # norm of a residual relative to that of b


def conjugate_gradients(product: Map, b: Tensor, iterations: int, inverse: Map | None = None) -> Tensor:
    """Return v with M v = b, M symmetric and positive, by preconditioned conjugate gradients.

    (Saad, Iterative Methods for Sparse Linear Systems, Algorithm 9.1.) The Jacobian of a network is only nearly
    symmetric. So an image stops where its curvature p^T M p is not positive, and the iterate with the smallest residual
    is returned. Nothing branches on the value of a tensor.

    Args:
        product: v -> M v.
        b: (B, ...).
        iterations: number of products, at least 1.
        inverse: an approximate inverse of M, symmetric and positive; None is the identity.
    """
    inverse = inverse or (lambda r: r)
    v = best = torch.zeros_like(b)
    r, p = b, inverse(b)
    rz, smallest = _dot(r, p), _dot(r, r)
    negligible = TOLERANCE**2 * smallest
    for _ in range(iterations):
        q = product(p)
        curvature = _dot(p, q)
        active = (curvature > 0) & (rz > 0) & (_dot(r, r) > negligible)
        step = torch.where(active, rz / torch.where(active, curvature, 1), 0)
        v, r = v + step * p, r - step * q
        z, rr = inverse(r), _dot(r, r)
        better = rr < smallest
        best, smallest = torch.where(better, v, best), torch.where(better, rr, smallest)
        before, rz = rz, _dot(r, z)
        p = z + torch.where(active, rz / torch.where(active, before, 1), 0) * p
    return best


def per_image(value: Tensor | float, like: Tensor) -> Tensor | float:
    """Return a number, or one number per image (B, 1, 1, 1), in the form that multiplies `like`, (B, ...)."""
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    return value.to(like).reshape(-1, *(1,) * (like.ndim - 1))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each image, shaped to multiply it."""
    return (a * b).flatten(1).sum(1).reshape(-1, *(1,) * (a.ndim - 1))
