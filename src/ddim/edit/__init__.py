"""Editing images with a `Denoise` function and a sampler: inversion, interpolation, variation and restoration.

A new file in this package is found without another edit, so a method of restoration registers itself.
"""

import pkgutil
from importlib import import_module

from ddim.edit.exact import OBELM, Implicit, decode_exactly, encode_exactly
from ddim.edit.interpolate import grid, interpolate, line, slerp, tour
from ddim.edit.invert import invert
from ddim.edit.operators import Blur, Box, Grey, Linear, Mask, Operator, SuperResolution
from ddim.edit.posterior import methods, posterior, register
from ddim.edit.resample import Resample
from ddim.edit.restore import restore
from ddim.edit.vary import blend, vary

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "OBELM",
    "Blur",
    "Box",
    "Grey",
    "Implicit",
    "Linear",
    "Mask",
    "Operator",
    "Resample",
    "SuperResolution",
    "blend",
    "decode_exactly",
    "encode_exactly",
    "grid",
    "interpolate",
    "invert",
    "line",
    "methods",
    "posterior",
    "register",
    "restore",
    "slerp",
    "tour",
    "vary",
]
