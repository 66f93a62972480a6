"""Editing images with a `Denoise` function and a sampler: inversion and interpolation."""

from ddim.edit.interpolate import grid, interpolate, line, slerp
from ddim.edit.invert import invert

__all__ = ["grid", "interpolate", "invert", "line", "slerp"]
