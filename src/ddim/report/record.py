"""What a run's folder holds, read once: the figures and the words are made from this alone."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ddim import checkpoint
from ddim.denoiser import Denoiser


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
        return self.config.get("recipe") or {}

    @property
    def strips(self) -> dict[str, Tensor] | None:
        """The tensors of the strips, as `ddim.experiments.strips` describes them; None if they are not there."""
        tensors = self.samples["strips"]
        whole = {"times", "eta0.x", "eta0.x0", "eta1.x", "eta1.x0"} <= tensors.keys()
        return tensors if whole and "strips" in self.results else None


def read(folder: Path, network: nn.Module | None = None) -> Record:
    """Read a run. Raises `UserError` if the folder holds no model; all else may be missing or broken."""
    model = checkpoint.load(folder, network)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    results = {name: _json(folder / "results" / f"{name}.json") for name in ("gallery", "strips", "timing")}
    return Record(
        folder,
        model,
        checkpoint.read_config(folder),
        _json(folder / "environment.json"),
        _lines(folder / "metrics.jsonl"),
        {name: facts for name, facts in results.items() if facts.get("weights") == weights},
        {name: _tensors(folder / "samples" / f"{name}.safetensors") for name in ("data", "ddim", "ddpm", "strips")},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole: a run that is killed may leave half a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict) and {"epoch", "loss", "held_out"} <= line.keys()]


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return {}
