"""Count the operations of a network call, as PyTorch does: a multiplication and an addition are two operations."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def gflop(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Return the operations of one call for one image, in 10^9. Training costs three times as many.

    Args:
        network: a module called as network(x, t).
        shape: (C, H, W) of the image.
    """
    x = next(network.parameters()).new_zeros(1, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, torch.ones(1, device=x.device))
    return counter.get_total_flops() / 1e9
