"""PyTorch's own operations: the network as it is, the reference, and a copy of it with activations channels last."""

import copy
from pathlib import Path

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, register
from ddim.device import autocast


@register("torch")
class Torch(Backend):
    """The network itself. In bf16, autocast chooses the operations that compute in it."""

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        self.network, self.precision = source.network, precision

    def __call__(self, *inputs: Tensor) -> Tensor:
        with autocast(self.precision, inputs[0].device):
            output: Tensor = self.network(*inputs)
        return output


@register("channels-last")
class ChannelsLast(Torch):
    """A copy of the network with activations stored as (B, H, W, C). Many convolution kernels need that order."""

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        super().__init__(source, precision, batch, folder)
        # the types of `to` leave out this argument for modules
        self.network = copy.deepcopy(source.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, *rest = inputs
        return super().__call__(x.contiguous(memory_format=torch.channels_last), *rest).contiguous()
