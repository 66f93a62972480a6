"""What a call of a network costs, as PyTorch counts it: a multiplication and an addition are two operations."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def gflop(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Of one call for one image of (C, H, W), in 10^9; training costs three times as much.

    Args:
        network: with labels or without.
        shape: of the image.
    """
    x = next(network.parameters()).new_zeros(1, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, torch.ones(1, device=x.device))
    return counter.get_total_flops() / 1e9
