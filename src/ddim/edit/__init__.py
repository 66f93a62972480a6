"""Editing: what can be done with a `Denoise` and a sampler, without knowing the network."""

from ddim.edit.invert import invert

__all__ = ["invert"]
