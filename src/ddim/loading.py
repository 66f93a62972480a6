"""`ddim.load`: one way in for every model, whatever it was saved as."""

from pathlib import Path

from torch import nn

from ddim import checkpoint
from ddim.denoiser import Denoiser
from ddim.errors import UserError


def load(name_path_or_hub_id: str | Path, network: nn.Module | None = None) -> Denoiser:
    """A trained model, ready to sample, in eval mode on the CPU.

    Args:
        name_path_or_hub_id: the folder of a run, e.g. "runs/digits".
        network: the module itself, for a model whose network is the user's own.

    Raises:
        UserError: there is no such folder, or what it holds is not a model that this version can read.
    """
    folder = Path(name_path_or_hub_id)
    if not folder.is_dir():
        raise UserError(f"There is no run at {folder}; train one first, for instance with `ddim train digits`.")
    return checkpoint.load(folder, network)
