"""Folders of diffusers: read a `UNet2DModel` with its scheduler, write a `DDIMPipeline`; without diffusers itself."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ddim import __version__
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError, number
from ddim.files import read_table, unreadable, user_path, write_bytes, write_text
from ddim.interop import conditional, schedulers, unet2d
from ddim.interop.weights import check_pictures, filled, read, reads, tensors
from ddim.nets.preconditioned import Preconditioned
from ddim.nets.unet2d import UNet2D

WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.safetensors",
)
"""Names of the file of weights; the first that is there is read."""
UNETS = {"UNet2DModel": unet2d.options, "UNet2DConditionModel": conditional.options}
VERSION = "0.35.0"  # of diffusers, the oldest that is tested

ImageSize = int | Sequence[int] | None


def is_diffusers(folder: Path) -> bool:
    """Return whether a folder is one of diffusers: a pipeline, or a model by its `_class_name`."""
    return (folder / "model_index.json").is_file() or "_class_name" in _table(folder / "config.json", missing=True)


@reads("diffusers")
def from_diffusers(folder: str | Path, image_size: ImageSize = None) -> Denoiser:
    """Return the model of a diffusers folder, in eval mode on the CPU.

    It samples as its pipeline does: 50 steps of DDIM, eta = 0, on the scheduler's timesteps, clipped if that clips. The
    network is a `ddim.nets.UNet2D`, a module of ddim with the same weights.

    Args:
        folder: a pipeline of a `UNet2DModel` and a scheduler, or the folder of the `UNet2DModel` alone. Without a
            scheduler, it is taken to be DDPM's, and a `Notice` says so.
        image_size: side of the images, or (height, width), for a model that does not tell its `sample_size`.

    Raises:
        UserError: the folder is none of these, a file is missing, damaged or refused, or a field of a config has a
            value that ddim cannot express, which is named.
    """
    folder = user_path(folder)
    home, plan = folder, folder / "scheduler_config.json"
    if (folder / "model_index.json").is_file():
        parts = _table(folder / "model_index.json")
        if "unet" not in parts:
            raise UserError(
                f"{folder / 'model_index.json'} names the parts {', '.join(k for k in parts if k[0] != '_')}, and no "
                "unet; ddim reads pipelines of a UNet2DModel and a scheduler."
            )
        other = [name for name in parts if name[0] != "_" and name not in ("unet", "scheduler") and any(parts[name])]
        if other:
            raise UserError(
                f"{folder / 'model_index.json'} has the part {other[0]!r}, and ddim reads pipelines of a UNet2DModel "
                "and a scheduler alone; load its folder unet to use the network without it."
            )
        home = folder / "unet" if (folder / "unet").is_dir() else folder
        plan = folder / "scheduler" / "scheduler_config.json" if (folder / "scheduler").is_dir() else plan
    config = _table(home / "config.json")
    if config.get("_class_name") not in UNETS:
        raise UserError(
            f"{home / 'config.json'} describes a {config.get('_class_name')!r:.60}, and ddim reads UNet2DModel, and "
            "UNet2DConditionModel without text; wrap the module yourself, and make a ddim.Denoiser of it."
        )
    scheduler = _scheduler(plan)
    try:
        options = UNETS[config["_class_name"]](config)
        height, width = size(config.get("sample_size") if image_size is None else image_size)
    except UserError as error:
        raise UserError(f"{home / 'config.json'} cannot be used: {error}") from error
    path = next((home / name for name in WEIGHTS if (home / name).is_file()), None)
    if path is None:
        raise UserError(f"{home} holds no weights; ddim reads {', '.join(WEIGHTS)}, of which one must be there.")
    network: nn.Module = filled(lambda: UNet2D(**options), unet2d.modern(tensors(read(path), path)), path)
    if scheduler.sigma_data is not None:
        network = Preconditioned(network, scheduler.sigma_data)
    shape, classes = (options["channels"], height, width), options["classes"]
    try:
        model = Denoiser(
            network,
            scheduler.schedule,
            scheduler.predicts,
            shape,
            classes,
            indexed=scheduler.indexed,
            sampling=scheduler.sampling,
        )
    except UserError as error:
        raise UserError(f"{folder} cannot be used: {error}") from error
    if classes is not None:
        model.null_class = False
    if scheduler.note:
        warnings.warn(
            f"{plan} has {scheduler.note}; the images are not quite those of diffusers.", Notice, stacklevel=4
        )
    return model.eval()


def to_diffusers(model: Denoiser, folder: str | Path, label: int | None = None) -> Path:
    """Write a folder that `DDIMPipeline.from_pretrained` loads and samples, and return it.

    `pipeline(num_inference_steps=50, use_clipped_model_output=True)` draws from x_T what
    `model.sample(steps=50, sampler="ddim")` draws from it, on the model's default spacing if diffusers has it, else
    trailing: to 1e-3 in float32 where diffusers' steps are equal (T a multiple of the steps).

    Args:
        model: its network must be a `unet2d`, or a `unet` with fold = 1 and one number of groups.
        folder: is created if missing.
        label: the class to draw, -1 for any class, of a model with classes: `DDIMPipeline` passes no labels.

    Raises:
        UserError: something that `UNet2DModel` or `DDIMPipeline` cannot express, which is named; nothing is written.
    """
    folder = user_path(folder)
    check_pictures(model, "Pipelines of diffusers")
    if model.classes is None and label is not None:
        raise UserError(f"This model has no classes; leave the label {label} out.")
    if model.classes is not None and label is None:
        raise UserError(
            f"DDIMPipeline passes no labels, and this model has classes = {model.classes}: choose one class for the "
            "folder with a label (--label), -1 for any class."
        )
    if model.sampling.times:
        raise UserError(
            "DDIMPipeline chooses its own times, and this model is a student with times of its own (sampling.times); "
            "export its teacher, or the student to onnx."
        )
    config, weights = unet2d.expressed(model.network, model.shape, model.indexed)
    if label is not None:
        given = number("The label", label, int, -1, (model.classes or 0) - 1)
        weights = unet2d.with_class(weights, _embedding(model.network, given))
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise UserError(f"The weights {broken[0]} are not all finite, so nothing is written; train the model again.")
    scheduler = schedulers.write(model.schedule, model.predicts, model.sampling)
    about = {"_diffusers_version": VERSION}
    index = {
        "_class_name": "DDIMPipeline",
        **about,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    bare = {name: value.float().contiguous().clone() for name, value in weights.items()}
    metadata = {"format": "pt", "written_by": f"ddim {__version__}"}
    write_bytes(folder / "unet" / WEIGHTS[0], to_bytes(bare, metadata=metadata))
    for path, table in (
        ("unet/config.json", {**config, **about}),
        ("scheduler/scheduler_config.json", {**scheduler, **about}),
        ("model_index.json", index),  # last: a folder with it is whole
    ):
        write_text(folder / path, json.dumps(table, indent=2) + "\n")
    return folder


def size(given: Any) -> tuple[int, int]:
    """Return (height, width) of images from a side, or a pair. Raises `UserError` for anything else."""
    if given is None:
        raise UserError(
            "the size of its images is not in the file; give image_size, e.g. ddim.load(..., image_size=32)."
        )
    pair = (given, given) if not isinstance(given, list | tuple) else tuple(given)
    if len(pair) != 2:
        raise UserError(f"image_size must be a side or (height, width); got {given!r:.60}.")
    height, width = (number("A side of the images", side, int, 1, 1024) for side in pair)
    return height, width


def _embedding(network: nn.Module, label: int) -> Tensor | None:
    if isinstance(network, UNet2D):
        return None if network.class_embedding is None or label < 0 else network.class_embedding.weight[label]
    table: nn.Embedding = network.condition.label  # type: ignore[union-attr, assignment]
    return table.weight[label + 1]


def _scheduler(path: Path) -> schedulers.Scheduler:
    if not path.is_file():
        text = f"{path.parent} has no scheduler_config.json: the schedule is taken to be DDPM's, linear with T = 1000."
        warnings.warn(text, Notice, stacklevel=5)
        return schedulers.read({"_class_name": "DDIMScheduler"})
    try:
        return schedulers.read(_table(path))
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error


def _table(path: Path, missing: bool = False) -> dict[str, Any]:
    try:
        return read_table(path)
    except FileNotFoundError as error:
        if missing:
            return {}
        raise UserError(f"There is no {path}; give the folder of a diffusers pipeline or of a UNet2DModel.") from error
    except OSError as error:
        raise unreadable(path, error, "copy it again") from error
    except ValueError as error:
        if missing:
            return {}
        raise UserError(f"{path} is not a config of diffusers ({error}); copy it again.") from error
