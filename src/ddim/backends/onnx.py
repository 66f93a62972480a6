"""ONNX Runtime (https://onnxruntime.ai): runs an exported network on many processors."""

import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, digest, register, threads
from ddim.device import evaluating
from ddim.environment import version


@register("onnx")
class ONNX(Backend):
    """ONNX Runtime. The network is exported with a free batch size, which takes some seconds, once."""

    needs = ("onnxruntime", "onnxscript")
    precisions = ("fp32",)

    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None:
        import onnxruntime

        assert folder is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other programs need the cores
        self._names = source.input_names
        path = str(folder / "network.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Tensor) -> Tensor:
        arrays = {name: one.contiguous().numpy() for name, one in zip(self._names, inputs, strict=True)}
        return torch.from_numpy(self._session.run(None, arrays)[0])

    @classmethod
    def key(cls, source: Source, precision: str, batch: int) -> str | None:
        return digest(source.key, version("onnxscript"), torch.__version__)

    @classmethod
    def make(cls, source: Source, precision: str, batch: int, folder: Path) -> None:
        rows = torch.export.Dim("batch", min=1, max=65_536)
        quiet = io.StringIO()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with torch.no_grad(), evaluating(source.network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stdout(quiet), redirect_stderr(quiet):  # the exporter prints its progress
                program = torch.onnx.export(
                    source.network,
                    source.inputs(3, seed=1),
                    dynamo=True,
                    dynamic_shapes=tuple({0: rows} for _ in source.input_names),
                    input_names=source.input_names,
                )
        assert program is not None
        program.save(str(folder / "network.onnx"))
