"""Read weights that other programs wrote, without executing anything in their files, and fill a network with them."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ddim import model_io
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import read_tensors, unreadable
from ddim.text import first_line, listed

MOST = 10  # names in a message
Network = TypeVar("Network", bound=nn.Module)
Reader = TypeVar("Reader", bound=Callable[..., Denoiser])


def reads(library: str) -> Callable[[Reader], Reader]:
    """Return a decorator for a function that reads a model: what other programs write can raise any error.

    Every error becomes a `UserError` that names the path and the library.
    """

    def decorate(read: Reader) -> Reader:
        @functools.wraps(read)
        def reader(path: str | Path, *args: Any, **options: Any) -> Denoiser:
            try:
                return read(path, *args, **options)
            except (UserError, MemoryError):
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {first_line(error):.200}"
                raise UserError(f"{path} does not describe a model of {library} ({reason}); copy it again.") from error

        return reader  # type: ignore[return-value]

    return decorate


def read(path: Path) -> Any:
    """Return what a file of weights holds: the tensors by name of a safetensors file, else what a pickle holds.

    Pickles are read by PyTorch with `weights_only=True`: tensors, numbers, text and containers.

    Raises:
        UserError: the file is missing, damaged, or names a class or a function that weights do not need.
    """
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error, "copy it again") from error
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise UserError(
                f"{path} is no file of weights that PyTorch or safetensors wrote; copy it again."
            ) from error
        raise UserError(
            f"{path} was refused, and nothing in it was run: it names {named[1]}, and weights hold tensors, numbers "
            "and text alone. Save the model's state_dict in its own program, or convert it to safetensors."
        ) from error
    except Exception as error:  # a damaged archive may raise anything
        raise unreadable(path, error, "copy it again") from error


def tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict, without DataParallel's prefix "module.". Raises `UserError` for anything else."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(one, str) for one in content):
        raise UserError(f"{path} holds no state_dict, tensors by name; save model.state_dict() in its own program.")
    found = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def filled(
    make: Callable[[], Network],
    weights: Mapping[str, Tensor],
    path: Path,
    named: Callable[[str], str] = str,
) -> Network:
    """Return the network that `make` builds, in eval mode, with the weights of a file.

    Args:
        make: builds the network.
        weights: by their names in the file.
        path: of the file.
        named: the name in the file of a weight of the network; by default the same.

    Raises:
        UserError: the network is far larger than the file, or weights are missing, left over, or of other shapes; at
            most `MOST` are named.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    try:
        with model_io.at_most(shapes, path):
            network = make()
    except UserError as error:
        raise UserError(f"The network of {path} cannot be built: {error}") from error
    own = {named(name): tuple(value.shape) for name, value in network.state_dict().items()}
    both = sorted(own.keys() & shapes.keys())
    other = [f"{name} is {shapes[name]} and not {own[name]}" for name in both if shapes[name] != own[name]]
    faults = (("lacks", sorted(own.keys() - shapes.keys())), ("also holds", sorted(shapes.keys() - own.keys())))
    faulty = [f"it {verb} {listed(names, MOST // 2)}" for verb, names in faults if names] or [listed(other, MOST)]
    if any(faulty):
        raise UserError(
            f"{path} does not hold the weights of the network that its config describes: {'; '.join(faulty)}. Give the "
            "file and the config that were saved together."
        )
    model_io.fill(network, {name: weights[named(name)] for name in network.state_dict()}, path)
    return network.eval()


def renamed(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """Return a name after replacing each pattern, in this order."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def check_pictures(model: Denoiser, target: str) -> None:
    """Raise `UserError` for a model with vectors as conditions or of arrays, which `target` cannot express."""
    if model.conditions is not None:
        raise UserError(f"{target} take no vectors, and this model has conditions = {model.conditions}; use ddim.")
    if model.values is not None:
        low, high = model.values.range
        raise UserError(f"{target} draw pictures, and this model draws arrays from {low:g} to {high:g}; use ddim.")
