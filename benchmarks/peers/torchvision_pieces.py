"""The few pieces of torchvision that denoising-diffusion-pytorch uses, for where there is none.

The pictures are grey and have the right size already, so what does any work is the conversion of a PIL image to a
tensor, which is done here as torchvision does it.
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
    """Let `import torchvision` find these pieces, unless there is a torchvision."""
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
    """One transform after another."""

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
    """A transform that leaves images of the wanted size alone; there are no others here."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def __call__(self, image: Image.Image) -> Image.Image:
        if image.size != self.size[::-1]:
            raise ValueError(f"the picture has {image.size} pixels, not {self.size[::-1]}")
        return image


class Resize(_SameSize):
    """To the size that the picture has."""


class CenterCrop(_SameSize):
    """All of the picture."""


class ToTensor:
    """(C, H, W) float32 in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image, copy=True))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
        return pixels.to(torch.float32).div(255)
