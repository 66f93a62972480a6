"""The averaged weights: what a diffusion model is sampled with."""

import copy

import torch
from torch import nn


class Average:
    """An exponential moving average of a network's weights (arXiv 2006.11239, appendix B).

    After n updates the decay is min(`decay`, (1 + n) / (10 + n)), so that the first weights, which know
    nothing, are soon forgotten.

    Args:
        network: whose weights are averaged; they are copied now.
        decay: in [0, 1).

    Attributes:
        network: a module of its own with the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the weights of `network`; its buffers are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for mine, new in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(new)
