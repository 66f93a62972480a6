"""Averages of the weights of any width, chosen after training (EDM2, arXiv 2312.02696, section 3.2 and Algorithm 3).

Training keeps two power-function averages (`ddim.train.state.Average`) and from time to time writes a snapshot of them.
The average of another width is a sum of snapshots. Its profile, the weight of each step tau in it, is

    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)   for tau <= t, the last step,                       (EDM2, Eq. 121)

and so is that of each snapshot, at its own step and width. The coefficients are those of the closest sum in least
squares, and add up to 1. The distance that is left, relative to the norm of p, is the `error` of the width. For weights
that are a constant plus white noise, it is the error of the average relative to the noise that is left in it.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.config import read_config
from ddim.errors import UserError, number
from ddim.files import read_tensors, tensors_header, write_bytes, write_text
from ddim.train import checkpoints
from ddim.train.guards import exclusive
from ddim.train.state import State, gamma

KIND = "averages"  # the folder of the snapshots in a run
SHORTEST = 16  # updates between two snapshots
WIDEST = 0.25
LARGEST_ERROR = 0.1
WIDTHS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25)
RIDGE = 1e-6  # of the squares of the coefficients: snapshots are rounded to half precision


class Source(NamedTuple):
    """An average on the disk: its step and width, and the file that holds it."""

    step: int
    width: float
    path: Path


class Width(NamedTuple):
    """A width that a run can have, and the error of its average, see above; 0 for one that training kept."""

    width: float
    error: float


# Snapshots


def due(step: int, most: int) -> bool:
    """Return whether a snapshot is due after an update, if at most `most` are kept."""
    return most > 0 and step % _spacing(step, most) == 0


def _spacing(step: int, most: int) -> int:
    """Return the steps between two snapshots: a power of two, so that those of a larger spacing are already there."""
    spacing = SHORTEST
    while step // spacing > most:
        spacing *= 2
    return spacing


@torch.no_grad()
def save(state: State, folder: str | Path, most: int) -> None:
    """Write a snapshot of the averages in half precision, and remove those between the places of a larger spacing.

    Without averages nothing is written. Raises `UserError` if the folder cannot be written or the disk is full.
    """
    tensors = {
        f"{average.width:g}/{name}": weight.detach().half().cpu().contiguous().clone()
        for average in state.averages
        if average.width
        for name, weight in average.network.named_parameters(remove_duplicate=False)
    }
    if not tensors:
        return
    write_bytes(checkpoints.path_of(folder, state.step, KIND), to_bytes(tensors))
    spacing = _spacing(state.step, most)
    checkpoints.remove(folder, {step for step in steps(folder) if step % spacing}, KIND)


def steps(folder: str | Path) -> list[int]:
    """Return the steps of a run's snapshots, ascending."""
    return checkpoints.steps(folder, KIND)


# Other widths


def solve(ends: list[tuple[int, float]], step: int, width: float) -> tuple[NDArray[np.float64], float]:
    """Return the coefficients of averages, whose sum is closest to the average of a width at a step, and its error.

    `ends` are the step and the width of each average; none is later than `step`.
    """
    t, exponents = np.array([[float(end), gamma(one)] for end, one in ends]).T
    products = _product(t[:, None], exponents[:, None], t, exponents)
    norm = _product(step, gamma(width), step, gamma(width))
    aim = _product(t, exponents, step, gamma(width)) / norm
    ones, count = np.ones((len(t), 1)), len(t)
    system = np.block([[products / norm + RIDGE * np.eye(count), ones], [ones.T, np.zeros((1, 1))]])
    found = np.linalg.solve(system, np.append(aim, 1))[:count]
    return found, float(np.sqrt(max(0.0, 1 - 2 * found @ aim + found @ (products / norm) @ found)))


def _product(t: Any, one: Any, to: Any, other: Any) -> Any:
    """Return the inner product of two profiles (EDM2, Eq. 151), which end at t and `to` and have two exponents.

    It is the integral of (one + 1) tau^one / t^(one + 1) times the same of the other over [0, min(t, to)].
    """
    ratio = t / to
    power = ratio ** np.where(ratio < 1, other, -one)
    return (one + 1) * (other + 1) * power / ((one + other + 1) * np.maximum(t, to))


def widths(folder: str | Path) -> list[Width]:
    """Return the widths that a run keeps and those of `WIDTHS`, ascending, with their errors; raises as `rebuild`."""
    return _widths(_sources(Path(folder)))


def rebuild(folder: str | Path, width: float) -> tuple[dict[str, Tensor], Width]:
    """Return the averaged weights of a width at a run's newest checkpoint, as a state dict, and their error.

    A width that training kept is that of the checkpoint, bit for bit. Buffers are the latest ones.

    Args:
        folder: the run.
        width: standard deviation of the steps that count, as a share of all steps, up to 0.25; 0 is the latest weights.

    Raises:
        UserError: a run without checkpoints or without averages, a damaged file, or a width whose error is larger than
            `LARGEST_ERROR`.
    """
    width = number("The width of an average", width, float, 0.0, WIDEST)
    sources = _sources(Path(folder))
    step = sources[-1].step
    tensors, _ = checkpoints.read(folder, step)
    if weights := _group(tensors, f"{width:g}" if width else "raw"):
        return weights, Width(width, 0.0)
    weights = _group(tensors, f"{sources[-1].width:g}")
    coefficients, error = solve([source[:2] for source in sources], step, width)
    if error > LARGEST_ERROR:
        possible = [one.width for one in _widths(sources) if one.error <= LARGEST_ERROR]
        raise UserError(
            f"The snapshots of {folder} do not give the width {width:g}: its error would be {error:.0%}, and at most "
            f"{LARGEST_ERROR:.0%} is allowed; choose a width from {min(possible):g} to {max(possible):g}."
        )
    sums: dict[str, Tensor] = {}
    for path in dict.fromkeys(source.path for source in sources):
        parts = [(c, one) for c, one in zip(coefficients.tolist(), sources, strict=True) if one.path == path]
        held = tensors if parts[0][1].step == step else _read(path)
        for coefficient, source in parts:
            for name, tensor in _group(held, f"{source.width:g}").items():
                if tensor.is_floating_point():
                    sums[name] = sums.get(name, torch.zeros(())) + coefficient * tensor.double()
    return weights | {name: total.to(weights[name].dtype) for name, total in sums.items()}, Width(width, error)


def write(folder: str | Path, width: float) -> Width:
    """Replace the weights of a run's model by the average of a width, and return it with its error.

    The config then has an entry "average". The width that training saved, the first of the plan's `ema`, brings back
    both files as they were. For errors see `rebuild`; none changes a file.
    """
    folder = Path(folder)
    with exclusive(folder, main=True):
        config = read_config(folder)
        weights, found = rebuild(folder, width)
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise UserError(f"The average of width {width:g} of {folder} is not finite; choose another width.")
        config.pop("average", None)
        if found.width != saved_width(folder):
            config["average"] = {**found._asdict(), "step": checkpoints.newest(folder)}
        write_bytes(folder / "model.safetensors", to_bytes(weights, metadata={"format": "pt"}))
        write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return found


def saved_width(folder: str | Path) -> float:
    """Return the width of the average that training saves as the model."""
    path = checkpoints.path_of(folder, checkpoints.newest(folder))
    return float(json.loads(tensors_header(path).metadata["ddim"])["average"])


def _widths(sources: list[Source]) -> list[Width]:
    step = sources[-1].step
    kept = {source.width for source in sources if source.step == step}
    ends = [source[:2] for source in sources]
    others = [Width(width, solve(ends, step, width)[1]) for width in WIDTHS if width not in kept]
    return sorted([*others, *(Width(width, 0.0) for width in kept)])


def _sources(folder: Path) -> list[Source]:
    """Return the averages of a run by step, those of the newest checkpoint last: of checkpoints, then of snapshots."""
    saved = checkpoints.steps(folder)
    if not saved:
        raise UserError(f"{folder} has no checkpoints, from which averages of the weights are made; give a run.")
    files = {step: checkpoints.path_of(folder, step, KIND) for step in steps(folder) if step < saved[-1]}
    files = {step: checkpoints.path_of(folder, step) for step in saved if step} | files
    found = []
    for step, path in sorted(files.items()):
        try:
            groups = dict.fromkeys(name.partition("/")[0] for name in tensors_header(path).shapes)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it: the others may do.") from error
        found += [Source(step, float(group), path) for group in groups if re.fullmatch(r"0\.\d+", group)]
    if not found or found[-1].step != saved[-1]:
        raise UserError(
            f"{folder} holds no average of its weights after step 0; train with --ema 0.1 0.05, which keeps two."
        )
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it: the others may do.") from error


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    start = f"{group}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
