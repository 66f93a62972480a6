"""The few parts of torchvision that denoising-diffusion-pytorch uses, for an environment without torchvision.

The pictures are grey and already have the right size. So the only operation needed is the conversion of a PIL image
to a tensor, which works here as in torchvision.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def install() -> None:
    """Make `import torchvision` find these classes, unless torchvision is installed."""
    if "torchvision" in sys.modules or find_spec("torchvision") is not None:
        return
    package, transforms, utils = (ModuleType(f"torchvision{name}") for name in ("", ".transforms", ".utils"))
    pieces = (Compose, Lambda, Resize, CenterCrop, ToTensor)
    vars(transforms).update({piece.__name__: piece for piece in pieces})
    vars(package).update(transforms=transforms, utils=utils)
    for module in (package, transforms, utils):
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module


class Compose:
    """Several transforms, applied in order."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda:
    """A function as a transform."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, image: Any) -> Any:
        return self.function(image)


class _SameSize:
    """A transform that returns images of the wanted size unchanged and refuses others."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, image: Image.Image) -> Image.Image:
        if image.size != self.size[::-1]:
            raise ValueError(f"the picture has {image.size} pixels, not {self.size[::-1]}")
        return image


class Resize(_SameSize):
    """Resize to the size that the picture already has."""


class CenterCrop(_SameSize):
    """Crop to the whole picture."""


class ToTensor:
    """Convert a picture to (C, H, W) float32 in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image, copy=True))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
        return pixels.to(torch.float32).div(255)
