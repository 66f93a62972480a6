"""Models of other libraries, in and out: what goes over is the same to rounding, what cannot is refused by its name."""

from pathlib import Path
from typing import Any

from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.interop import edm, guided, hub, lucidrains, official, weights
from ddim.interop.diffusers import ImageSize, from_diffusers, is_diffusers, to_diffusers
from ddim.interop.edm import from_edm
from ddim.interop.guided import from_guided
from ddim.interop.lucidrains import from_lucidrains
from ddim.interop.official import from_official
from ddim.interop.programs import to_onnx, to_torch
from ddim.text import listed

__all__ = [
    "ImageSize",
    "from_diffusers",
    "from_edm",
    "from_guided",
    "from_lucidrains",
    "from_official",
    "hub",
    "is_diffusers",
    "load",
    "to_diffusers",
    "to_onnx",
    "to_torch",
]

READERS = (
    (official.is_official, from_official),
    (guided.is_guided, from_guided),
    (edm.is_edm, from_edm),
    (lucidrains.is_lucidrains, from_lucidrains),
)
"""For each layout of a file of weights, whether a content has it, and what reads it."""


def load(
    path: Path, network: Any = None, checkpoint: int | None = None, raw: bool = False, image_size: ImageSize = None
) -> Denoiser | None:
    """Return the model of another library in a folder or a file, or None for a folder that is not one of diffusers.

    The arguments are those of `ddim.load`. Raises `UserError` for a file of none of the known layouts, for an argument
    that only runs have, and for what the readers refuse.
    """
    if path.is_dir() and not is_diffusers(path):
        return None
    if network is not None or checkpoint is not None:
        raise UserError(f"{path} is a model of another library; leave out the network and --checkpoint.")
    if path.is_dir():
        if raw:
            raise UserError(f"{path} is a folder of diffusers, which holds one set of weights; leave out --raw.")
        return from_diffusers(path, image_size)
    content = weights.read(path)
    for is_known, read in READERS:
        if is_known(content):
            return read(path, raw=raw, image_size=image_size, content=content)
    names = [str(name)[:60] for name in content] if isinstance(content, dict) else [type(content).__name__]
    raise UserError(
        f"{path} has none of the layouts that ddim reads: it holds {listed(names, 3)}; ddim reads folders of "
        "diffusers, and checkpoints of the official DDPM and DDIM code, of guided-diffusion, of EDM and of "
        "denoising-diffusion-pytorch."
    )
