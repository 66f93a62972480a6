"""Reading what a run's folder holds: whatever is broken, half-written or of another kind is simply absent."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

LEVELS = ("held_out_by_level", "train_by_level")  # of a line of metrics: losses in ten equal parts of [0, T]
BINS = 10
ROWS = 8  # of the samples along the way, at most
LEAST, MOST = 1e-9, 1e9  # a loss between them can be drawn
SIGNED = complex  # the kind of a number that may lie below 0


@dataclass(frozen=True)
class Maybe:
    """The kind of a part that may be missing, see `fits`."""

    kind: Any


@dataclass(frozen=True)
class Stop:
    """Samples along the way: the same noise with the weights of one step.

    Attributes:
        step: which.
        averaged, latest: (N, C, H, W) uint8.
    """

    step: int
    averaged: Tensor
    latest: Tensor


def table(path: Path) -> dict[str, Any]:
    """What a JSON file holds, if that is a table; else an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return as_table(found)


def as_table(found: object) -> dict[str, Any]:
    """`found` if it is a table, else an empty one."""
    return found if isinstance(found, dict) else {}


def fits(found: object, kind: Any) -> bool:
    """Whether what was read is of a kind.

    Args:
        found: from a file.
        kind: `int` for counts from 1 on, `float` for numbers from 0 on, `SIGNED` for any number; `str`; a tuple of
            the words that it may be; `...` for anything; [kind] for a list with something in it; {name: kind} for a
            table with at least these names, but for those of a `Maybe` kind; {str: kind} for one with any names,
            and something in it.
    """
    if isinstance(kind, Maybe):
        return fits(found, kind.kind)
    if isinstance(kind, dict):
        if not isinstance(found, dict):
            return False
        if str in kind:
            return bool(found) and all(fits(one, kind[str]) for one in found.values())
        return all(fits(found[name], k) if name in found else isinstance(k, Maybe) for name, k in kind.items())
    if isinstance(kind, list):
        return isinstance(found, list) and bool(found) and all(fits(one, kind[0]) for one in found)
    if isinstance(kind, tuple):
        return isinstance(found, str) and found in kind
    if kind is ...:
        return True
    if kind is str:
        return isinstance(found, str) and _is_text(found)
    if not _is_number(found) or not math.isfinite(found):
        return False
    return kind is SIGNED or (found >= 0 if kind is float else isinstance(found, int) and found > 0)


def metrics(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole, and of each its numbers and its losses by level.

    A run that is killed, or writes at this moment, may leave half a line.
    """
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    whole = []
    for text in texts:
        try:
            line = as_table(json.loads(text))
        except (ValueError, RecursionError):
            continue
        found = {name: n for name, n in line.items() if _is_number(n) and name not in LEVELS}
        if {"epoch", "loss", "held_out"} <= found.keys() and math.isfinite(found["epoch"]):
            whole.append(found | {name: line[name] for name in LEVELS if _are_levels(line.get(name))})
    return whole


def images_seen(config: dict[str, Any], lines: list[dict[str, Any]]) -> int | None:
    """How many images a training has seen, by its `config.json` and its metrics; None if they do not tell."""
    size = as_table(as_table(config.get("recipe")).get("plan")).get("batch_size")
    known = lines and "step" in lines[-1] and isinstance(size, int) and size > 0
    return lines[-1]["step"] * size if known else None


def images(path: Path, shape: tuple[int, ...], ndim: int | dict[str, int]) -> dict[str, Tensor]:
    """The tensors of a file of samples, if all but `times` are uint8 images of that shape.

    Args:
        path: of the file.
        shape: (C, H, W) of an image.
        ndim: dimensions of every tensor; or of each by its name, and then all of these have to be there.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return {}
    names = tensors.keys() - {"times"}
    dimensions = dict.fromkeys(names, ndim) if isinstance(ndim, int) else ndim
    right = names == dimensions.keys() and all(
        _are_images(tensors[name], shape, dimensions[name]) for name in names
    )
    return tensors if right else {}


def along(folder: Path, shape: tuple[int, ...]) -> list[Stop]:
    """Up to eight of the samples along the way, the first and the last among them, in order."""
    paths = {path.stem.removeprefix("step-"): path for path in folder.glob("step-*.safetensors")}
    steps = sorted((int(name), path) for name, path in paths.items() if name.isdecimal())
    if not steps:
        return []
    stops = []
    for i in torch.linspace(0, len(steps) - 1, min(ROWS, len(steps))).round().int().tolist():
        step, path = steps[i]
        found = images(path, shape, ndim=4)
        if {"averaged", "latest"} <= found.keys() and len(found["averaged"]) == len(found["latest"]):
            stops.append(Stop(step, found["averaged"], found["latest"]))
    return stops


def _is_text(found: str) -> bool:
    """Whether it can be written and drawn; the name of a file need not be."""
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(found: object) -> TypeGuard[int | float]:
    """Whether it is one, and no whole number that a float cannot hold."""
    return isinstance(found, float) or (type(found) is int and abs(found) < 2**63)


def _are_images(tensor: Tensor, shape: tuple[int, ...], ndim: int) -> bool:
    return (
        tensor.dtype == torch.uint8 and tensor.ndim == ndim and bool(tensor.numel()) and tensor.shape[-3:] == shape
    )


def _are_levels(found: object) -> bool:
    return isinstance(found, list) and len(found) == BINS and all(_is_number(n) and LEAST < n < MOST for n in found)
