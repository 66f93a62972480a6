"""The checkpoints of a run: each a file that is whole or absent, from which training goes on to the last bit.

A checkpoint is one safetensors file, `checkpoints/STEP.safetensors`: the tensors of a `State`, and in its header
the state's numbers and the SHA-256 of it all, so that a damaged file is known and passed over.
"""

import contextlib
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.errors import UserError
from ddim.files import write_bytes
from ddim.train.state import State

FORMAT = 1
NEWEST = 2  # kept, so that there is another if one is damaged


def save(state: State, folder: str | Path) -> Path:
    """Write the checkpoint of this step into `folder`/checkpoints, then remove those that are not worth keeping.

    Raises:
        UserError: the folder cannot be written or the disk is full; the checkpoints before it are as they were.
    """
    path = _path(folder, state.step)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors().items()}
    about = {"format": FORMAT, **state.numbers()}
    header = json.dumps({**about, "digest": _digest(tensors, about)})
    write_bytes(path, to_bytes(tensors, metadata={"ddim": header}))
    there = steps(folder)
    _remove(folder, set(there) - worth_keeping(there))
    return path


def steps(folder: str | Path) -> list[int]:
    """The steps of which a run holds a checkpoint, in order; whether those files are whole is not looked at."""
    names = (path.stem for path in (Path(folder) / "checkpoints").glob("*.safetensors"))
    return sorted(int(name) for name in names if re.fullmatch("[0-9]{8}|[1-9][0-9]{8,}", name))


def worth_keeping(steps: list[int]) -> set[int]:
    """The two newest of these steps, and of the older ones the last before each power of two."""
    last_before = {step.bit_length(): step for step in sorted(steps)}
    return set(sorted(steps)[-NEWEST:]) | set(last_before.values())


def read(folder: str | Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and numbers of one checkpoint, for `State.restore`.

    Raises:
        UserError: there is none of that step, or the file is damaged.
    """
    path = _path(folder, step)
    if not path.is_file():
        there = ", ".join(map(str, steps(folder))) or "none"
        raise UserError(f"{folder} has no checkpoint of step {step}; it has {there}.")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["ddim"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        digest = about.pop("digest")
        whole = about["format"] <= FORMAT and about["step"] == step and digest == _digest(tensors, about)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); use another checkpoint.") from error
    if not whole:
        raise UserError(f"{path} is damaged, or of a newer ddim; use another checkpoint.")
    return tensors, about


def resume(state: State, folder: str | Path, before: float = math.inf) -> int | None:
    """Bring `state` to the newest whole checkpoint of a run.

    Args:
        state: of a model in training.
        folder: of the run.
        before: the checkpoint is of an earlier step than this.

    Returns:
        Its step; None if there is no checkpoint, and `state` is as it was.

    Raises:
        UserError: no checkpoint is whole, or the newest whole one is of another network.
    """
    refusals = []
    for step in reversed([step for step in steps(folder) if step < before]):
        try:
            tensors, numbers = read(folder, step)
        except UserError as error:
            refusals.append(str(error))
            continue
        try:
            state.restore(tensors, numbers)
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"The checkpoint of step {step} in {folder} is of another network or plan; choose another --out."
            ) from error
        return step
    if refusals:
        raise UserError(f"No checkpoint in {folder} is whole: {refusals[0]} Or begin anew with --overwrite.")
    return None


def weights(folder: str | Path, step: int, raw: bool) -> dict[str, Tensor]:
    """The weights of one checkpoint, the averaged or the latest, as a network's state. `UserError` as `read`."""
    tensors, numbers = read(folder, step)
    group = "raw/" if raw else f"{numbers['average']}/"
    return {name.removeprefix(group): tensor for name, tensor in tensors.items() if name.startswith(group)}


def newest(folder: str | Path) -> int:
    """The step of a run's newest checkpoint. Raises `UserError` if it has none."""
    found = steps(folder)
    if not found:
        raise UserError(f"{folder} has no checkpoints, and so only its averaged weights; leave --raw out.")
    return found[-1]


def clear(folder: str | Path, after: int = -1) -> None:
    """Remove the checkpoints of the steps that come after one; all of them if none is named."""
    _remove(folder, {step for step in steps(folder) if step > after})


def _remove(folder: str | Path, some: set[int]) -> None:
    for step in some:
        with contextlib.suppress(OSError):  # one more is no reason to end a training
            _path(folder, step).unlink()


def _path(folder: str | Path, step: int) -> Path:
    return Path(folder) / "checkpoints" / f"{step:08d}.safetensors"


def _digest(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
