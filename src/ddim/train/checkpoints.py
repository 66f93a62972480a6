"""The checkpoints of a run. Each is whole or absent, and a training resumed from it is the same bit for bit.

A checkpoint is one safetensors file, `checkpoints/STEP.safetensors`: the tensors of a `State`, and in its header
the state's numbers and a SHA-256 digest of both, so that a damaged file is noticed and skipped.
"""

import contextlib
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.errors import UserError, number
from ddim.files import read_tensors, tensors_header, write_bytes
from ddim.train.state import Numbers, State

FORMAT = 1
KIND = "checkpoints"  # the folder of these files in a run
NEWEST = 2  # checkpoints kept, in case one is damaged


def save(state: State, folder: str | Path) -> Path:
    """Write the checkpoint of this step into `folder`/checkpoints, then remove those that are not worth keeping.

    Raises:
        UserError: the folder cannot be written or the disk is full; the earlier checkpoints are unchanged.
    """
    path = write(pack(state), folder, state.step)
    available = steps(folder)
    remove(folder, set(available) - worth_keeping(available))
    return path


def pack(state: State) -> bytes:
    """Return the content of the checkpoint of this step."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors().items()}
    numbers = {"format": FORMAT, **state.numbers()}
    header = json.dumps({**numbers, "digest": _digest(tensors, numbers)})
    return to_bytes(tensors, metadata={"ddim": header})


def write(packed: bytes, folder: str | Path, step: int) -> Path:
    """Write what `pack` returned at a step as its checkpoint. Raises `UserError` as `save` does."""
    path = path_of(folder, step)
    write_bytes(path, packed)
    return path


def steps(folder: str | Path, kind: str = KIND) -> list[int]:
    """Return the steps of a run's checkpoints, or files of another kind, ascending; they need not be whole."""
    names = (path.stem for path in (Path(folder) / kind).glob("*.safetensors"))
    return sorted(int(name) for name in names if re.fullmatch("[0-9]{8}|[1-9][0-9]{8,}", name))


def worth_keeping(steps: list[int]) -> set[int]:
    """Return the two newest of these steps, and of the older ones the last before each power of two."""
    last_before = {step.bit_length(): step for step in sorted(steps)}
    return set(sorted(steps)[-NEWEST:]) | set(last_before.values())


def read(folder: str | Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and numbers of one checkpoint, for `State.restore`.

    Raises:
        UserError: there is no checkpoint of that step, or the file is damaged.
    """
    path = path_of(folder, number("The step of a checkpoint", step, int))
    if not path.is_file():
        available = ", ".join(map(str, steps(folder))) or "none"
        raise UserError(f"{folder} has no checkpoint of step {step}; it has {available}.")
    try:
        numbers = json.loads(tensors_header(path).metadata["ddim"])
        tensors = read_tensors(path)
        digest = numbers.pop("digest")
        whole = numbers["format"] <= FORMAT and numbers["step"] == step and digest == _digest(tensors, numbers)
        if whole:
            msgspec.convert(numbers, Numbers)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); use another checkpoint.") from error
    if not whole:
        raise UserError(f"{path} is damaged, or of a newer ddim; use another checkpoint.")
    return tensors, numbers


def resume(state: State, folder: str | Path, before: float = math.inf) -> int | None:
    """Set `state` to the newest whole checkpoint of a run.

    Return the step of the checkpoint, or None if there is none of a step below `before`; `state` is then unchanged.

    Raises:
        UserError: every checkpoint is damaged, or the newest whole one belongs to another network.
    """
    errors = []
    for step in reversed([step for step in steps(folder) if step < before]):
        try:
            tensors, numbers = read(folder, step)
        except UserError as error:
            errors.append(str(error))
            continue
        try:
            state.restore(tensors, numbers)
        except ValueError as error:
            raise UserError(
                f"The checkpoint of step {step} in {folder} is of another network or plan ({error}); choose another "
                "--out."
            ) from error
        return step
    if errors:
        raise UserError(f"No checkpoint in {folder} is whole: {errors[0]} Or start over with --overwrite.")
    return None


def weights(folder: str | Path, step: int, raw: bool) -> dict[str, Tensor]:
    """Return the averaged or the latest (`raw`) weights of one checkpoint, as a state dict; see `read`."""
    tensors, numbers = read(folder, step)
    group = "raw/" if raw else f"{numbers['average']}/"
    found = {name.removeprefix(group): tensor for name, tensor in tensors.items() if name.startswith(group)}
    if not found:
        raise UserError(f"{path_of(folder, step)} is damaged (it has no weights {group}...); use another checkpoint.")
    return found


def newest(folder: str | Path) -> int:
    """Return the step of a run's newest checkpoint. Raises `UserError` if there is none."""
    available = steps(folder)
    if not available:
        raise UserError(f"{folder} has no checkpoints, and so only its averaged weights; leave --raw out.")
    return available[-1]


def clear(folder: str | Path, after: int = -1, kind: str = KIND) -> None:
    """Remove the checkpoints, or files of another kind, of all steps above `after`; by default all of them."""
    remove(folder, {step for step in steps(folder, kind) if step > after}, kind)


def remove(folder: str | Path, removed: set[int], kind: str = KIND) -> None:
    """Remove the checkpoints, or files of another kind, of some steps, if the file system allows it."""
    for step in removed:
        with contextlib.suppress(OSError):  # one file too many is no reason to end a training
            path_of(folder, step, kind).unlink()


def path_of(folder: str | Path, step: int, kind: str = KIND) -> Path:
    """Return the file of a checkpoint, or of another kind, which may be missing."""
    return Path(folder) / kind / f"{step:08d}.safetensors"


def _digest(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
