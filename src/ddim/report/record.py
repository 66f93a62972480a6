"""What a run's folder holds, read once: the figures and the words are made from this alone."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ddim import checkpoint
from ddim.denoiser import Denoiser

_GALLERY = {"eta": float, "steps": int, "count": int, "seconds": float}
_ROW = {
    "steps": int,
    "seconds": float,
    "seconds_per_image": float,
    "forward_seconds": float,
    "ratio_to_forwards": float,
}
RESULTS: dict[str, dict[str, Any]] = {  # what the page reads of each results/<name>.json
    "gallery": {"ddim": _GALLERY, "ddpm": _GALLERY},
    "strips": {},
    "timing": {"rows": [_ROW], "batch": int, "threads": int, "device": str, "machine": {"processor": str}},
}
SAMPLES = ("data", "ddim", "ddpm", "strips")


@dataclass(frozen=True)
class Record:
    """A run, as far as it is there.

    Attributes:
        folder: where it lies.
        model: with the averaged weights.
        config: `config.json`.
        environment: `environment.json`; empty if there is none.
        metrics: the lines of `metrics.jsonl`.
        results: `results/<name>.json` of every experiment that was made with these very weights.
        samples: `samples/<name>.safetensors`, tensors by name; empty for a file that is not there.
    """

    folder: Path
    model: Denoiser
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    samples: dict[str, dict[str, Tensor]]

    @property
    def recipe(self) -> dict[str, Any]:
        """What it was trained by; empty for a model that came without a recipe."""
        return _dict(self.config.get("recipe"))

    @property
    def batch_size(self) -> int | None:
        """Of its training; None if that is not known."""
        size = _dict(self.recipe.get("plan")).get("batch_size")
        return size if isinstance(size, int) else None

    @property
    def versions(self) -> dict[str, Any]:
        """Of what it was trained with; empty if that is not known."""
        return _dict(self.environment.get("versions"))

    @property
    def strips(self) -> dict[str, Tensor] | None:
        """The tensors of the strips, as `ddim.experiments.strips` describes them; None if they are not there."""
        tensors = self.samples["strips"]
        images = {"eta0.x", "eta0.x0", "eta1.x", "eta1.x0"}
        if "strips" not in self.results or tensors.keys() != images | {"times"}:
            return None
        shapes = {tuple(tensors[name].shape) for name in images}
        frames, *rest = shapes.pop()
        whole = not shapes and len(rest) == 4 and frames == len(tensors["times"]) > 1
        return tensors if whole else None


def read(folder: Path, network: nn.Module | None = None) -> Record:
    """Read a run. Raises `UserError` if the folder holds no model; all else may be missing or broken."""
    model = checkpoint.load(folder, network)
    weights = checkpoint.fingerprint(folder)
    results = {name: _json(folder / "results" / f"{name}.json") for name in RESULTS}
    return Record(
        folder,
        model,
        checkpoint.read_config(folder),
        _json(folder / "environment.json"),
        _lines(folder / "metrics.jsonl"),
        {name: f for name, f in results.items() if f.get("weights") == weights and _fits(f, RESULTS[name])},
        {name: _images(folder / "samples" / f"{name}.safetensors", model) for name in SAMPLES},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return _dict(found)


def _dict(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _fits(found: object, kind: Any) -> bool:
    """Whether what was read is of the kind that `RESULTS` describes."""
    if isinstance(kind, dict):
        return isinstance(found, dict) and all(name in found and _fits(found[name], kind[name]) for name in kind)
    if isinstance(kind, list):
        return isinstance(found, list) and bool(found) and all(_fits(one, kind[0]) for one in found)
    return isinstance(found, int | float if kind is float else kind)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole, and of each its numbers: a run that is killed may leave half a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        try:
            numbers = {name: n for name, n in _dict(json.loads(line)).items() if isinstance(n, int | float)}
        except (ValueError, RecursionError):
            continue
        if {"epoch", "loss", "held_out"} <= numbers.keys() and math.isfinite(numbers["epoch"]):
            found.append(numbers)
    return found


def _images(path: Path, model: Denoiser) -> dict[str, Tensor]:
    """The tensors of a file of samples, if all of its images are of the model's shape."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return {}
    images = [tensor for name, tensor in tensors.items() if name != "times"]
    right = all(i.dtype == torch.uint8 and i.ndim > 3 and len(i) and i.shape[-3:] == model.shape for i in images)
    return tensors if right else {}
