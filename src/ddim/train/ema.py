"""The averaged weights, which a diffusion model is sampled with."""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn


class Average:
    """A power-function average of a network's weights (arXiv 2312.02696, section 3.1).

    The weights of step tau count as tau^gamma. The average therefore covers the same share of the training,
    however long that has been: no decay depends on its length, and no start-up phase needs a correction.

    Args:
        network: the network whose weights are averaged; they are copied now, and read in each `update`.
        width: standard deviation of the steps that count, as a share of the steps so far, in [0, 0.25].
            0 is no averaging: the latest weights.

    Attributes:
        network: a separate module with the averaged weights.
        updates: the number of updates so far.
    """

    def __init__(self, network: nn.Module, width: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.width, self.updates = width, 0
        # Listed once: iterating over the modules at each update takes milliseconds.
        self._weights: list[torch.Tensor] = list(self.network.parameters())
        self._latest: list[torch.Tensor] = list(network.parameters())
        self._source = network

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's current weights; copy its buffers."""
        self.updates += 1
        share = 1 - (1 - 1 / self.updates) ** (gamma(self.width) + 1) if self.width else 1.0  # 1 - beta
        torch._foreach_lerp_(self._weights, self._latest, share)
        for averaged, latest in zip(self.network.buffers(), self._source.buffers(), strict=True):
            averaged.copy_(latest)


@cache
def gamma(width: float) -> float:
    """Return the exponent for a width: width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())
