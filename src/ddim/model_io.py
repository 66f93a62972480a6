"""A model on disk: `config.json`, its description, and `model.safetensors`, its weights.

Reading them never executes code.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from ddim import __version__, nets, schedule
from ddim.config import FORMAT as FORMAT
from ddim.config import check_config
from ddim.config import read_config as read_config
from ddim.denoiser import Denoiser
from ddim.device import uncompiled
from ddim.errors import UserError
from ddim.files import read_tensors, tensors_header, unreadable, user_path, write_bytes, write_text
from ddim.presets import Preset
from ddim.sampling import Sampling
from ddim.text import first_line
from ddim.values import Values

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # of saved weights


def describe(model: Denoiser, **about: Any) -> dict[str, Any]:
    """Return the description of a model, ready for `config.json`; `about` adds entries, e.g. the recipe."""
    return {
        "format": FORMAT,
        "ddim": __version__,
        "network": getattr(model.network, "config", {"name": "custom"}),
        "schedule": model.schedule.config,
        "predicts": model.predicts,
        "shape": list(model.shape),
        "classes": model.classes,
        "null_class": model.null_class,
        "indexed": model.indexed,
        "sampling": _sampling_table(model.sampling),
        **({} if model.conditions is None else {"conditions": model.conditions}),
        **({} if model.values is None else {"values": asdict(model.values)}),
        **({"presets": [preset.to_dict() for preset in model.presets]} if model.presets else {}),
        **about,
    }


def restore(config: dict[str, Any], network: nn.Module | None = None) -> Denoiser:
    """Return the model that a config of `describe` describes, with new weights.

    `network` is the module of a model whose network is not registered; without it such a config is a `UserError`.
    """
    if network is None:
        if config["network"]["name"] == "custom":
            raise UserError("This model's network is not registered; load the model with network=YourModule(...).")
        network = nets.from_config(config["network"])
    options = dict(config["schedule"])
    name = options.pop("name")
    if name not in schedule.schedules:
        raise UserError(
            f"The schedule {name!r} is not registered (only {', '.join(schedule.schedules)}); first import the "
            "file that registers it (on the command line: --plugin FILE)."
        )
    model = Denoiser(
        network,
        schedule.get(name, **options),
        config["predicts"],
        config["shape"],
        config["classes"],
        indexed=config["indexed"],
        sampling=Sampling(**config["sampling"]),
        conditions=config.get("conditions"),
    )
    model.null_class = _null_class(config)
    model.values = Values(**config["values"]) if "values" in config else None
    model.presets = tuple(Preset(**entry) for entry in config.get("presets", ()))
    for preset in model.presets:
        preset.check(model.schedule, model.classes)
    return model


def save(model: Denoiser, folder: str | Path, **about: Any) -> None:
    """Write a model into a folder, which is created if missing: the weights first, so a config has weights.

    `about` adds entries to `config.json`, e.g. the recipe. Raises `UserError` if the folder cannot be written, the
    disk is full, a weight is NaN or infinite, or the model is beyond the limits of `read_config`; the files that are
    there are then unchanged.
    """
    folder = user_path(folder)
    described = describe(model, **about)
    try:
        config = json.dumps(described, indent=2) + "\n"
    except TypeError as error:  # before the weights, so that no half of a model is left
        raise UserError(
            f"The model cannot be saved: the arguments of its network and of its schedule must be plain data ({error})."
        ) from error
    check_config(described, folder / "config.json")
    state = uncompiled(model.network).state_dict()
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"The weights {name} are not all finite, so no model is written to {folder}; train again from an "
                "earlier checkpoint, with a lower learning rate."
            )
    weights = {name: value.cpu().contiguous().clone() for name, value in state.items()}  # tied weights share memory
    write_bytes(folder / "model.safetensors", to_bytes(weights, metadata={"format": "pt"}))
    write_text(folder / "config.json", config)


def load(folder: str | Path, network: nn.Module | None = None) -> Denoiser:
    """Read a model from a folder that `save` wrote, in eval mode on the CPU.

    Weights saved as float16, bfloat16 or float64 take the dtype of the network, float32 by default: half precision
    is exact in it, double precision is rounded. Weights that are NaN are loaded; sampling refuses them.

    Args:
        folder: the folder with `config.json` and `model.safetensors`.
        network: the module, for a model whose network is not registered.

    Raises:
        UserError: a file is missing, broken, of a newer format, beyond the limits of `read_config` or of another
            network, or the name of the network or the schedule is registered by a file that has not been imported.
    """
    folder = user_path(folder)
    config = read_config(folder)
    path = folder / "model.safetensors"
    try:
        shapes = tensors_header(path).shapes
        with at_most(shapes, path):
            model = _restored(config, network, folder / "config.json")
        check_fit(path, shapes, model.network)
        fill(model.network, read_tensors(path), path)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no model.safetensors: the run has not saved a model yet, or is not a run."
        ) from error
    except OSError as error:
        raise unreadable(path, error, "copy it or train it again") from error
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}); copy it or train it again.") from error
    return model.eval()


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy the weights of a file into a network, in the network's dtype.

    Raises:
        UserError: they are of another network, or a dtype is none of `FLOATS` where the network has one of them.
    """
    check_fit(path, {name: tuple(tensor.shape) for name, tensor in weights.items()}, network)
    for name, own in network.state_dict().items():
        saved, allowed = weights[name].dtype, FLOATS if own.dtype in FLOATS else (own.dtype,)
        if saved not in allowed:
            raise UserError(
                f"{path} holds {name} as {_words(saved)}, and the network takes {', '.join(map(_words, allowed))}; "
                "convert the weights, or train the model again."
            )
    network.load_state_dict(weights)


def _null_class(config: dict[str, Any]) -> bool:
    """Whether the null class was trained; a run written without that entry has its recipe."""
    try:
        return bool(config["null_class"] if "null_class" in config else config["recipe"]["plan"]["label_dropout"] > 0)
    except (KeyError, TypeError):
        return True


def check_fit(path: Path, shapes: Mapping[str, tuple[int, ...]], network: nn.Module) -> None:
    """Check that the tensors of a file, by name, are those of a network. Raises `UserError` if not."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(shapes.keys() | expected.keys()):
        in_file, in_config = (one.get(name, "absent") for one in (shapes, expected))
        if in_file != in_config:
            raise UserError(
                f"{path} holds the weights of another network: {name} is {in_file} in the file and {in_config} in "
                "config.json's network; load them with the config that they were saved with."
            )


def fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 of a folder's weights, or of a file of weights, which identifies the model of a result.

    Raises `UserError` if the folder holds no weights, or they cannot be read.
    """
    path = Path(folder)
    path = path if path.is_file() else path / "model.safetensors"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no model.safetensors; give the folder of a trained run.") from error
    except OSError as error:
        raise unreadable(path, error, "copy it or train it again") from error


def _restored(config: dict[str, Any], network: nn.Module | None, path: Path) -> Denoiser:
    try:
        return restore(config, network)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # a config that `save` did not write can raise anything, PyTorch's text has many lines
        reason = f"{type(error).__name__}: {first_line(error):.200}"
        raise UserError(f"{path} does not describe a model ({reason}); train it or copy it again.") from error


@contextmanager
def at_most(shapes: Mapping[str, tuple[int, ...]], path: Path) -> Iterator[None]:
    """Refuse a network within this context as soon as it is far larger than `shapes`, the weights of a file.

    The hook is called before the memory of a new parameter is written, and so before it is taken.
    """
    held, built, thread = sum(map(prod, shapes.values())), 0, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal built
        if parameter is None or is_lazy(parameter) or threading.get_ident() != thread:
            return
        built += parameter.numel()
        if built > 2 * held + 1_000_000:
            raise UserError(
                f"its network has more than {built:,} parameters, and {path} holds {held:,}; load the weights with the "
                "config that they were saved with."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _sampling_table(sampling: Sampling) -> dict[str, Any]:
    """Return the defaults as a table, without those that few models have."""
    table = asdict(sampling)
    return {name: value for name, value in table.items() if (name, value) not in (("times", ()), ("clip", True))}


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
