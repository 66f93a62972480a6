"""The divergence of a vector field, the trace of its Jacobian: exactly, or by one random probe."""

from collections.abc import Callable

import torch
from torch import Tensor

Trace = Callable[[Tensor, Tensor], Tensor]
"""(f, x), f(x) as it was computed from the leaf `x` -> the divergence of f for each image, (B,)."""


def exact(f: Tensor, x: Tensor) -> Tensor:
    """sum_i df_i / dx_i, by a backward pass for each dimension: for small images."""
    total = torch.zeros(len(x), dtype=f.dtype, device=f.device)
    for i, output in enumerate(f.flatten(1).unbind(1)):
        (gradient,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


class Hutchinson:
    """e^T J e, whose mean over random signs e is the trace of J (arXiv 1810.01367, section 3.1): one backward pass.

    Args:
        probe: e, each number -1 or 1, shaped like the images; kept along the whole path.
    """

    def __init__(self, probe: Tensor) -> None:
        self.probe = probe

    def __call__(self, f: Tensor, x: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(f, x, self.probe)  # e^T J
        return (product * self.probe).flatten(1).sum(1)
