"""The results and samples of experiments in the folder of a run: written, removed and read back."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.experiments.base import Experiment, Result, Samples
from ddim.files import json_values, read_table, read_tensors, write_bytes, write_text

EVALUATED = "evaluate"  # the folder in a run with the results of `ddim evaluate`


def forget(folder: Path, name: str) -> None:
    """Remove `results/NAME.json` because the samples that belong to it are about to change."""
    (folder / "results" / f"{name}.json").unlink(missing_ok=True)


def keep(folder: Path, experiment: Experiment[Any], weights: str, result: Result, samples: Samples) -> Path:
    """Write the samples, `results/NAME.json` and, if there are rows, NAME.csv; return the path of the JSON file.

    `weights` is the fingerprint of the weights that made the result.
    """
    keep_samples(folder / "samples", experiment, samples)
    facts = json_values({"weights": weights, **asdict(result)})
    path = folder / "results" / f"{experiment.name}.json"
    if isinstance(facts.get("rows"), list):
        rows, text = [_flat(row) for row in facts["rows"]], io.StringIO()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path.with_suffix(".csv"), text.getvalue())
    write_text(path, json.dumps(facts, indent=2) + "\n")
    return path


def keep_samples(folder: Path, experiment: Experiment[Any], samples: Samples) -> None:
    """Write the samples of an experiment."""
    for file, names in _files(experiment).items():
        if tensors := {tensor: samples[name].contiguous() for name, tensor in names.items() if name in samples}:
            write_bytes(folder / f"{file}.safetensors", to_bytes(tensors))


def leave_out(folder: Path, experiment: Experiment[Any], weights: str, reason: str) -> None:
    """Write into `results/NAME.json` a sentence that says why there is no result: the experiment counts as not run."""
    text = json.dumps({"weights": weights, "left_out": reason}, indent=2) + "\n"
    write_text(folder / "results" / f"{experiment.name}.json", text)


@dataclass(frozen=True)
class Stored:
    """The content of `results/NAME.json`, the same as a dataclass, and why there is no result, as a sentence."""

    facts: dict[str, Any]
    result: Result | None = None
    problem: str = ""


def read(folder: Path, experiment: Experiment[Any], place: str = "results") -> Stored:
    """Read `results/NAME.json`, whichever weights it was made with.

    With the place `EVALUATED`, read the result of `ddim evaluate` instead, if that compared with the model's own data.
    """
    path = folder / place / f"{experiment.name}.json"
    if not path.is_file():
        return Stored({}, problem="Its result is not in the folder yet.")
    unreadable = f"{place}/{path.name} cannot be read: it is damaged, or another version of ddim wrote it."
    try:
        facts = load_json(path)
    except (OSError, ValueError, RecursionError):
        return Stored({}, problem=unreadable)
    if place == EVALUATED and facts.get("training_data") is not True:
        return Stored({}, problem=f"{place}/{path.name} compares with other images than the model's.")
    if isinstance(reason := facts.get("left_out"), str):
        return Stored(facts, problem=f"It was left out: {reason}")
    result = convert(experiment, facts)
    return Stored(facts, result, "" if result is not None else unreadable)


def convert(experiment: Experiment[Any], facts: dict[str, Any]) -> Result | None:
    """Return the result that the content of a JSON file stands for; None if it does not fit the dataclass."""
    try:
        return msgspec.convert(experiment.upgrade(facts), experiment.result_type)
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError, ValueError):
        return None


def load_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file, with None for numbers that are not finite.

    Raises:
        OSError, ValueError: as `read_table`, or for text that cannot be encoded.
    """
    content: dict[str, Any] = json_values(read_table(path))
    json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate cannot be drawn
    return content


def load_samples(
    folder: Path, experiment: Experiment[Any], shape: tuple[int, ...], place: str = "samples"
) -> Samples | None:
    """Return the samples of an experiment; None if some are missing, damaged or of another shape."""
    samples: Samples = {}
    for file, names in _files(experiment).items():
        ndims = {tensor: experiment.tensors[name] for name, tensor in names.items()}
        tensors = load_tensors(folder / place / f"{file}.safetensors", ndims, shape)
        if tensors is None:
            return None
        samples |= {name: tensors[tensor] for name, tensor in names.items()}
    return samples


def load_tensors(path: Path, ndims: Mapping[str, int], shape: tuple[int, ...]) -> dict[str, Tensor] | None:
    """Return the tensors of a file; None if the file or one of the tensors is missing or of another kind.

    `ndims` has the dimensions of each tensor. With four or more it has to hold uint8 images of this (C, H, W).
    """
    try:
        tensors = read_tensors(path)
    except (OSError, SafetensorError):
        return None
    for name, ndim in ndims.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.ndim != ndim or not tensor.numel():
            return None
        if ndim >= 4 and (tensor.dtype != torch.uint8 or tensor.shape[-3:] != shape):
            return None
    return tensors


def _files(experiment: Experiment[Any]) -> dict[str, dict[str, str]]:
    """{file: {name in `tensors`: name in the file}}."""
    files: dict[str, dict[str, str]] = {}
    for name in experiment.tensors:
        file, _, tensor = name.rpartition("/")
        files.setdefault(file or experiment.name, {})[name] = tensor
    return files


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a row with a column for each number: {"frechet": {"low": 1}} becomes {"frechet_low": 1}."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
