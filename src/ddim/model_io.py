"""A model on disk: `config.json`, its description, and `model.safetensors`, its weights.

Reading them never executes code.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ddim import __version__, nets, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import write_bytes, write_text
from ddim.sampling import Sampling

FORMAT = 1  # raised when an older ddim could no longer read what this one writes


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
        "sampling": asdict(model.sampling),
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
    )
    model.null_class = _null_class(config)
    return model


def save(model: Denoiser, folder: str | Path, **about: Any) -> None:
    """Write a model into a folder, which is created if missing: the weights first, so a config has weights.

    `about` adds entries to `config.json`, e.g. the recipe. Raises `UserError` if the folder cannot be written, the
    disk is full, or a weight is NaN or infinite; the files that are there are then unchanged.
    """
    folder = Path(folder)
    try:
        config = json.dumps(describe(model, **about), indent=2) + "\n"
    except TypeError as error:  # before the weights, so that no half of a model is left
        raise UserError(
            f"The model cannot be saved: the arguments of its network and of its schedule must be plain data ({error})."
        ) from error
    state = model.network.state_dict()
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

    Args:
        folder: the folder with `config.json` and `model.safetensors`.
        network: the module, for a model whose network is not registered.

    Raises:
        UserError: a file is missing, broken, of a newer format or of another network, or the name of the network or
            the schedule is registered by a file that has not been imported.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        model = restore(config, network)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'} cannot be used: {error}") from error
    except Exception as error:  # a config that `save` did not write can raise anything
        raise UserError(
            f"{folder / 'config.json'} does not describe a model ({error!r}); train it or copy it again."
        ) from error
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{folder} has no model.safetensors: the run has not saved a model yet, or is not a run.")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}); copy it or train it again.") from error
    _check_fit(path, weights, model.network.state_dict())
    model.network.load_state_dict(weights)
    return model.eval()


def fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 of a folder's weights, which identifies the model of a result.

    Raises `UserError` if the folder holds no weights.
    """
    try:
        return hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{folder} holds no model.safetensors; give the folder of a trained run.") from error


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the `config.json` of a folder. Raises `UserError` if it is missing, broken or of a newer format."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no model: there is no config.json in it; give the folder of a run.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        written = int(config["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is not a config that ddim wrote ({error!r}); train it or copy it again.") from error
    if written > FORMAT:
        raise UserError(
            f"{path} has format {written}; ddim {__version__} reads up to {FORMAT}: upgrade ddim to load it."
        )
    return config  # type: ignore[no-any-return]


def _null_class(config: dict[str, Any]) -> bool:
    """Whether the null class was trained; a run written without that entry has its recipe."""
    try:
        return bool(config["null_class"] if "null_class" in config else config["recipe"]["plan"]["label_dropout"] > 0)
    except (KeyError, TypeError):
        return True


def _check_fit(path: Path, saved: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in sorted(saved.keys() | expected.keys()):
        in_file, in_config = (tuple(s[name].shape) if name in s else "absent" for s in (saved, expected))
        if in_file != in_config:
            raise UserError(
                f"{path} holds the weights of another network: {name} is {in_file} in the file and {in_config} in "
                "config.json's network; load them with the config that they were saved with."
            )
