"""OpenVINO (https://docs.openvino.ai): compiles for Intel and ARM processors in under a second, in fp32 or bf16."""

import contextlib
import functools
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, digest, register, threads
from ddim.device import evaluating
from ddim.environment import version

SHAPES = 4  # batch sizes that stay compiled


class Part(NamedTuple):
    """A part of a batch: the request that computes it, and what it reads and writes, without the rows that fill it."""

    request: Any
    rows: slice
    inputs: list[Tensor]
    output: Tensor


@register("openvino")
class OpenVINO(Backend):
    """OpenVINO. The network is traced once, and compiled for each batch size in less than a second.

    A batch is computed in equal parts at the same time, one for each thread: threads that share an operation wait for
    each other after it.
    """

    needs = ("openvino",)

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        assert folder is not None
        self._openvino, self._names = _openvino(), source.input_names
        self._core, self._precision, self._threads = _core(), precision, threads()
        self._model = self._core.read_model(folder / "network.xml")
        self._compiled: OrderedDict[int, list[Part]] = OrderedDict()  # by batch size
        self._lock = threading.Lock()  # the parts hold one batch at a time

    def __call__(self, *inputs: Tensor) -> Tensor:
        batch = len(inputs[0])
        with self._lock:
            if batch not in self._compiled:
                self._compiled[batch] = self._compile(inputs)
            parts = self._compiled.pop(batch)  # and back, as the latest, unless Ctrl-C leaves some at work
            for part in parts:
                for held, one in zip(part.inputs, inputs, strict=True):
                    held.copy_(one[part.rows])
                part.request.start_async()
            for part in parts:
                part.request.wait()
            self._compiled[batch] = parts
            while len(self._compiled) > SHAPES:
                self._compiled.popitem(last=False)
            return torch.cat([part.output for part in parts])

    def _compile(self, inputs: Sequence[Tensor]) -> list[Part]:
        batch = len(inputs[0])
        size = -(-batch // min(batch, self._threads))
        starts = range(0, batch, size)
        shapes = [(size, *one.shape[1:]) for one in inputs]
        model, ov = self._model.clone(), self._openvino
        model.reshape({model.input(name).any_name: shape for name, shape in zip(self._names, shapes, strict=True)})
        options = {
            ov.properties.hint.inference_precision: ov.Type.bf16 if self._precision == "bf16" else ov.Type.f32,
            ov.properties.inference_num_threads: self._threads,
            ov.properties.num_streams: len(starts),
            # Pinned, the threads of every process would take the same cores, the first ones.
            ov.properties.hint.enable_cpu_pinning: False,
        }
        compiled = self._core.compile_model(model, "CPU", options)
        parts = []
        for start in starts:
            request, rows = compiled.create_infer_request(), slice(start, min(start + size, batch))
            held = [torch.zeros(shape, dtype=one.dtype) for shape, one in zip(shapes, inputs, strict=True)]
            for name, one in zip(self._names, held, strict=True):
                request.set_tensor(name, ov.Tensor(one.numpy(), shared_memory=True))
            output, count = torch.from_numpy(request.get_output_tensor().data), rows.stop - rows.start
            parts.append(Part(request, rows, [one[:count] for one in held], output[:count]))
        return parts

    @classmethod
    def key(cls, source: Source, precision: str, batch: int) -> str | None:
        return digest(source.key, version("openvino"), torch.__version__)

    @classmethod
    def make(cls, source: Source, precision: str, batch: int, folder: Path) -> None:
        ov = _openvino()
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.no_grad(), evaluating(source.network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: the shapes of images are constants, as they should be
            decoder = TorchScriptPythonDecoder(source.network, example_input=source.inputs(3, seed=1))
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
        for port, name in zip(model.inputs, source.input_names, strict=True):
            port.tensor.set_names({name})
        ov.save_model(model, folder / "network.xml", compress_to_fp16=False)


@functools.cache
def _core() -> Any:
    """Return the one core of this process. It is never freed.

    It places the stack of the main thread's signal handlers in its own memory: freed with it, the next Ctrl-C would
    crash the process.
    """
    return _openvino().Core()


def _openvino() -> Any:
    """Import openvino without its telemetry, which would send an event, and without absl, which takes over logging."""
    with _without("openvino_telemetry", "absl"):
        import openvino

    return openvino


@contextlib.contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Within this context, importing these packages fails, unless they have been imported before."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]
