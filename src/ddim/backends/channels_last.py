"""The network with its activations stored channels last, (B, H, W, C), the order of many convolution kernels."""

import copy
from pathlib import Path

import torch
from torch import Tensor

from ddim.backends.base import Source, register
from ddim.backends.torch import Torch


@register("channels-last")
class ChannelsLast(Torch):
    """A copy of the network with activations stored as (B, H, W, C)."""

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        super().__init__(source, precision, batch, folder)
        # the types of `to` leave out this argument for modules
        self.network = copy.deepcopy(source.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, *rest = inputs
        return super().__call__(x.contiguous(memory_format=torch.channels_last), *rest).contiguous()
