"""Models of other libraries, in and out: what goes over is the same to rounding, what cannot is refused by its name."""

from ddim.interop.diffusers import ImageSize, from_diffusers, is_diffusers, to_diffusers
from ddim.interop.programs import to_onnx, to_torch

__all__ = ["ImageSize", "from_diffusers", "is_diffusers", "to_diffusers", "to_onnx", "to_torch"]
