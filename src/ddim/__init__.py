"""Denoising Diffusion Implicit Models on small images: train, sample in few steps, prove it with numbers.

Sub-modules are imported at their first use, so that `import ddim` is fast.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddim.data import open_images as open_images
    from ddim.data import read_images as read_images
    from ddim.denoiser import Denoiser as Denoiser
    from ddim.level import Level as Level
    from ddim.level import Prediction as Prediction
    from ddim.loading import load as load
    from ddim.nets import Preconditioned as Preconditioned
    from ddim.pictures import show as show

__all__ = [
    "Denoiser",
    "Level",
    "Preconditioned",
    "Prediction",
    "__version__",
    "load",
    "open_images",
    "read_images",
    "show",
]

_HOMES = {
    "Denoiser": "denoiser",
    "Level": "level",
    "Prediction": "level",
    "Preconditioned": "nets",
    "load": "loading",
    "open_images": "data",
    "read_images": "data",
    "show": "pictures",
}
_RENAMED = {"ladder": "timesteps", "checkpoint": "model_io"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ddim.{_HOMES[name]}"), name)
    if name in _RENAMED:  # the module warns too, but at the line in `importlib` that imports it, which Python hides
        warnings.warn(f"ddim.{name} is now ddim.{_RENAMED[name]}.", DeprecationWarning, stacklevel=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(f"ddim.{name}")
    if not name.startswith("_"):
        try:
            return import_module(f"ddim.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"ddim.{name}":  # the module exists, and one that it needs is missing
                raise
    raise AttributeError(f"module 'ddim' has no attribute {name!r}")


def __dir__() -> list[str]:
    import pkgutil

    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted([*__all__, *modules])
