"""The reference: the network itself, in PyTorch, as it is or in bfloat16 by autocast."""

from pathlib import Path

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
