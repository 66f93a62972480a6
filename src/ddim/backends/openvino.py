"""OpenVINO (https://docs.openvino.ai): compiles for Intel and ARM processors in under a second, in fp32 or bf16."""

import contextlib
import functools
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, digest, register, threads
from ddim.device import evaluating
from ddim.environment import version

SHAPES = 4  # batch sizes that stay compiled


@register("openvino")
class OpenVINO(Backend):
    """OpenVINO. The network is traced once, and compiled for each batch size in less than a second."""

    needs = ("openvino",)

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        assert folder is not None
        ov = _openvino()
        self._openvino, self._shape, self._names = ov, source.shape, source.input_names
        self._core, self._precision = _core(), precision
        self._model = self._core.read_model(folder / "network.xml")
        self._requests: OrderedDict[int, Any] = OrderedDict()  # batch size -> compiled network
        self._lock = threading.Lock()  # a request computes one batch at a time

    def __call__(self, *inputs: Tensor) -> Tensor:
        arrays = [one.contiguous().numpy() for one in inputs]
        with self._lock:
            output = self._request(len(inputs[0])).infer(arrays, share_inputs=True, share_outputs=True)[0]
            return torch.from_numpy(output).clone()

    def _request(self, batch: int) -> Any:
        if batch in self._requests:
            self._requests.move_to_end(batch)
            return self._requests[batch]
        shapes = [(batch, *self._shape), *[(batch,)] * (len(self._names) - 1)]
        model = self._model.clone()
        model.reshape({model.input(name).any_name: shape for name, shape in zip(self._names, shapes, strict=True)})
        types, properties = self._openvino.Type, self._openvino.properties
        options = {
            properties.hint.inference_precision: types.bf16 if self._precision == "bf16" else types.f32,
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.inference_num_threads: threads(),
        }
        compiled = self._core.compile_model(model, "CPU", options)
        self._requests[batch] = compiled.create_infer_request()
        while len(self._requests) > SHAPES:
            self._requests.popitem(last=False)
        return self._requests[batch]

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
