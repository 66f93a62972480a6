"""A network as a program without its Python code: for ONNX Runtime, with a sampler in NumPy, and for `torch.export`."""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddim.backends import Source, backends
from ddim.backends.prepare import Unfit, check
from ddim.denoiser import Denoiser
from ddim.device import evaluating
from ddim.errors import UserError
from ddim.files import user_path, write_text, writing
from ddim.interop import sample_onnx
from ddim.interop.weights import check_pictures
from ddim.level import Level
from ddim.text import listed, one_line

NETWORKS = {"onnx": "network.onnx", "torch": "network.pt2"}
BATCHES = (1, 5)  # compared with the network; it is traced with another


def to_onnx(model: Denoiser, folder: str | Path) -> Path:
    """Write `network.onnx`, for any number of images, `model.json`, and `sample.py`; return the folder.

    `sample.py` needs NumPy and onnxruntime alone. It draws from a seed the images of
    `model.sample(count, sampler="ddim", seed=seed)`, to 1e-4 in float32 after 50 steps; of a student of `ddim.distill`,
    those of `model.sample(count, seed=seed)`.

    Args:
        model: any model whose network PyTorch can export; inputs are x (B, C, H, W), t (B,) and, with classes, label.
        folder: is created if missing.

    Raises:
        UserError: the exporter is not installed or cannot export the network, the program computes something else, or
            the model has conditions or draws arrays; nothing is written.
    """
    cls = backends["onnx"]
    if missing := cls.missing():
        raise UserError(f'Export to ONNX needs {listed(missing)}, which is not installed; pip install "ddim[fast]".')

    def export(source: Source, place: Path) -> Callable[..., Tensor]:
        cls.make(source, "fp32", 1, place)
        return cls(source, "fp32", 1, place)

    folder = _written(model, folder, "onnx", export)
    write_text(folder / "sample.py", Path(sample_onnx.__file__).read_text(encoding="utf-8"))
    return folder


def to_torch(model: Denoiser, folder: str | Path) -> Path:
    """Write `network.pt2`, a program of `torch.export` for any number of images, and `model.json`; return the folder.

    `torch.export.load(folder / "network.pt2").module()` is called as the network is: on x, t and, with classes, label.
    The arguments and the errors are those of `to_onnx`.
    """

    def export(source: Source, place: Path) -> Callable[..., Tensor]:
        inputs = source.inputs(3, seed=1)
        rows = torch.export.Dim("batch", min=1, max=65_536)
        with torch.no_grad(), evaluating(source.network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(source.network, inputs, dynamic_shapes=tuple({0: rows} for _ in inputs))
            torch.export.save(program, place / NETWORKS["torch"])
            found: Callable[..., Tensor] = torch.export.load(place / NETWORKS["torch"]).module()
        return found

    return _written(model, folder, "torch", export)


def _numbers(levels: Sequence[Level]) -> list[list[float]]:
    return [[float(number) for number in level] for level in levels]


def _written(
    model: Denoiser, folder: str | Path, kind: str, export: Callable[[Source, Path], Callable[..., Tensor]]
) -> Path:
    """Export into a temporary folder, compare the program with the network, and copy it with `model.json`."""
    folder, name = user_path(folder), NETWORKS[kind]
    check_pictures(model, f"Programs for {kind}")
    source = Source(model.network, model.shape, model.classes, model.schedule.T)
    _, levels = model.sampling.resolve(model.schedule, sampler=None if model.sampling.times else "ddim")
    own = [model.sampling.resolve(model.schedule, len(times))[1] for times in model.sampling.times]  # of a student
    about = {
        "shape": list(model.shape),
        "classes": model.classes,
        "predicts": model.predicts,
        "indexed": model.indexed,
        "levels": _numbers(levels),
        "student": {len(one) - 1: _numbers(one) for one in own},
        "clip": model.sampling.clip,
        "training_steps": _numbers([model.schedule(t) for t in model.schedule.times]),
    }
    with tempfile.TemporaryDirectory() as place:
        try:
            program = export(source, Path(place))
            for batch in BATCHES:
                check(program, "fp32", source, batch)
        except Unfit as error:
            raise UserError(f"The network is not exported to {kind}: {error}. Sample it with ddim.") from error
        except Exception as error:  # exporters raise anything
            raise UserError(
                f"The network cannot be exported to {kind} ({type(error).__name__}: {one_line(error)}); its forward "
                "may not read values of tensors."
            ) from error
        with writing(folder / name) as draft:
            shutil.copyfile(Path(place) / name, draft)
    write_text(folder / "model.json", json.dumps(about) + "\n")
    return folder
