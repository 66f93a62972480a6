"""Denoising Diffusion Implicit Models on small images: train, sample in few steps, prove it with numbers.

Sub-modules are imported when first used, so `import ddim` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ddim._version import __version__

if TYPE_CHECKING:
    from ddim.data import open_images as open_images
    from ddim.denoiser import Denoiser as Denoiser
    from ddim.level import Level as Level
    from ddim.level import Prediction as Prediction
    from ddim.loading import load as load

_HOMES = {  # the names at the top of the package, and where each lives
    "Denoiser": "ddim.denoiser",
    "Level": "ddim.level",
    "Prediction": "ddim.level",
    "load": "ddim.loading",
    "open_images": "ddim.data",
}
_MODULES = [
    *("checkpoint", "data", "denoiser", "errors", "experiments", "files", "forward", "guidance", "ladder"),
    *("level", "loading", "nets", "noise", "predict", "report", "samplers", "schedule", "train"),
]

__all__ = ["Denoiser", "Level", "Prediction", "__version__", "load", "open_images"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"ddim.{name}")
    raise AttributeError(f"module 'ddim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
