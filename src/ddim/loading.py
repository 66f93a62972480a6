"""`ddim.load`: load a model by its name, from a run folder, or from the files of another library."""

from pathlib import Path

from torch import nn

from ddim import interop, model_io
from ddim.backends.serving import serve
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import user_path
from ddim.text import did_you_mean
from ddim.train import checkpoints

_INSTALLED, _CHECKOUT = Path(__file__).with_name("models"), Path(__file__).parents[2] / "models"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The folder of the models that come with ddim."""


def find(name_or_path: str | Path, foreign: bool = False) -> Path:
    """Return the folder of a model: of one that comes with ddim for a string such as "mnist", else the path itself.

    A `Path`, or a string with a slash, is a folder of yours; `~` in it is the home folder. With `foreign`, it may
    also be a model of another library, a folder or a file. Raises `UserError` if neither exists.
    """
    names = {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/config.json"))}
    folder = names.get(name_or_path) if isinstance(name_or_path, str) else None
    folder = folder or user_path(name_or_path)
    if folder.is_file() or interop.is_diffusers(folder):
        if foreign:
            return folder
        raise UserError(
            f"{folder} is not a run; if it is a model of another library, `ddim export {folder} --to ddim --out "
            f"runs/{folder.stem if folder.is_file() else folder.name}` makes a run of it."
        )
    if not folder.is_dir():
        guess = "" if str(name_or_path) in names else did_you_mean(str(name_or_path), names)
        raise UserError(
            f"There is no run at {folder}{guess}; train one first, for instance with "
            f"`ddim train digits`, or take a model that comes with ddim: {', '.join(names) or 'none is there'}."
        )
    return folder


def comes_with_ddim(folder: Path) -> bool:
    """Return whether a folder from `find` is a model of the package, into which nothing may be written."""
    return folder.parent == SHIPPED


def load(
    name_path_or_hub_id: str | Path,
    network: nn.Module | None = None,
    *,
    checkpoint: int | None = None,
    raw: bool = False,
    backend: str = "auto",
    precision: str = "auto",
    image_size: interop.ImageSize = None,
) -> Denoiser:
    """Return a trained model, ready to sample, in eval mode on the CPU.

    Args:
        name_path_or_hub_id: the name of a model that comes with ddim, or the folder of a run; or a folder of diffusers,
            or a file of weights of the official DDPM and DDIM code, of guided-diffusion, of EDM or of
            denoising-diffusion-pytorch (see `ddim.interop`); or an id of the Hugging Face hub, "user/name" or
            "hf:user/name", with "@revision" at will.
        network: the module itself, for a model whose network is not registered.
        checkpoint: the step of the checkpoint whose weights to load; None loads the run's model.
        raw: load the latest weights instead of the averaged ones, of the newest checkpoint if none is given, or of the
            file.
        backend, precision: what computes the network of `sample`, see `ddim.backends.serve`. "torch" is the network
            itself, in the precision of its weights.
        image_size: side of the images, or (height, width), for a model of another library that does not tell it.

    Raises:
        UserError: the folder does not exist, or holds no model that this version can read.
    """
    if interop.hub.is_id(name_path_or_hub_id):
        name_path_or_hub_id = interop.hub.download(str(name_path_or_hub_id))
    folder = find(name_path_or_hub_id, foreign=True)
    if (foreign := interop.load(folder, network, checkpoint, raw, image_size)) is not None:
        return serve(foreign, backend, precision)
    if image_size is not None:
        raise UserError(f"{folder} is a run, whose images have one size; leave out image_size (--image-size).")
    model = model_io.load(folder, network)
    if checkpoint is not None or raw:
        step = checkpoint if checkpoint is not None else checkpoints.newest(folder)
        weights = checkpoints.weights(folder, step, raw)
        model_io.fill(model.network, weights, checkpoints.path_of(folder, step))
    return serve(model, backend, precision)
