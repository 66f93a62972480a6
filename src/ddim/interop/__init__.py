"""Models of other libraries, in and out: what goes over is the same to rounding, what cannot is refused by its name."""

from ddim.interop.diffusers import ImageSize, from_diffusers, is_diffusers, to_diffusers

__all__ = ["ImageSize", "from_diffusers", "is_diffusers", "to_diffusers"]
