"""PyTorch's compiler ahead of time (AOTInductor): it takes about a minute, once, and the result is kept."""

import threading
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ddim import environment
from ddim.backends.base import Backend, Source, digest, in_parts, register, threads
from ddim.device import autocast, evaluating
from ddim.errors import Notice


@register("compiled")
class Compiled(Backend):
    """PyTorch's compiler, which takes about a minute for each batch size, once.

    The weights are constants of the code. Batches of another size are split and padded.
    """

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        assert folder is not None
        self._run = torch._inductor.aoti_load_package(str(folder / "network.pt2"))
        self._batch, self._lock = batch, threading.Lock()

    def __call__(self, *inputs: Tensor) -> Tensor:
        with self._lock:
            parts = [self._run(*part) for part in in_parts(inputs, self._batch)]
        return torch.cat(parts)[: len(inputs[0])]

    @classmethod
    def key(cls, source: Source, precision: str, batch: int) -> str | None:
        processor = environment.processor(), torch.backends.cpu.get_cpu_capability(), threads()
        return digest(source.key, precision, batch, processor, torch.__version__)

    @classmethod
    def make(cls, source: Source, precision: str, batch: int, folder: Path) -> None:
        text = f"Compiling the network for {batch} images at a time takes about a minute; it is kept for the next time."
        warnings.warn(text, Notice, stacklevel=7)
        network = _InPrecision(source.network, precision).eval()
        with torch.no_grad(), evaluating(source.network):
            program = torch.export.export(network, source.inputs(batch, seed=1))
            path, options = str(folder / "network.pt2"), {"freezing": True}
            torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=options)


class _InPrecision(nn.Module):
    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, *inputs: Tensor) -> Tensor:
        with autocast(self.precision, inputs[0].device):
            output: Tensor = self.network(*inputs)
        return output.float()
