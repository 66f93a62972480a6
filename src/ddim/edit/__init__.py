"""Editing: what can be done with a `Denoise` and a sampler, without knowing the network."""

from ddim.edit.interpolate import grid, interpolate, line, slerp
from ddim.edit.invert import invert

__all__ = ["grid", "interpolate", "invert", "line", "slerp"]
