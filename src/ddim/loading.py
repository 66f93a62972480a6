"""`ddim.load`: one way in for every model, whatever it was saved as."""

from pathlib import Path

from torch import nn

from ddim import model_io
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.train import history

_INSTALLED, _CHECKOUT = Path(__file__).with_name("models"), Path(__file__).parents[2] / "models"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""Where the models lie that come with ddim."""


def find(name_or_path: str | Path) -> Path:
    """The folder of a model: one that comes with ddim for its name, else the path itself.

    Args:
        name_or_path: a string such as "mnist"; a path, or a string with a slash, is a folder of yours.

    Raises:
        UserError: there is neither.
    """
    names = {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/config.json"))}
    folder = names.get(name_or_path) if isinstance(name_or_path, str) else None
    folder = folder or Path(name_or_path)
    if not folder.is_dir():
        raise UserError(
            f"There is no run at {folder}; train one first, for instance with `ddim train digits`, or take a model "
            f"that comes with ddim: {', '.join(names) or 'none is there'}."
        )
    return folder


def comes_with_ddim(folder: Path) -> bool:
    """Whether a folder that `find` gave is a model of the package, into which nothing is to be written."""
    return folder.parent == SHIPPED


def load(
    name_path_or_hub_id: str | Path,
    network: nn.Module | None = None,
    *,
    checkpoint: int | None = None,
    raw: bool = False,
) -> Denoiser:
    """A trained model, ready to sample, in eval mode on the CPU.

    Args:
        name_path_or_hub_id: a model that comes with ddim, "mnist" or "airplanes", or the folder of a run.
        network: the module itself, for a model whose network is the user's own.
        checkpoint: the step of one of the run's checkpoints, to take its weights; None takes the run's model.
        raw: take the latest weights instead of the averaged ones; of the newest checkpoint if none is named.

    Raises:
        UserError: there is no such folder, or what it holds is not a model that this version can read.
    """
    folder = find(name_path_or_hub_id)
    model = model_io.load(folder, network)
    if checkpoint is not None or raw:
        step = checkpoint if checkpoint is not None else history.newest(folder)
        model.network.load_state_dict(history.weights(folder, step, raw))
    return model
