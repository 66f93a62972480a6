"""Networks: modules that map (x, t, label) to a tensor shaped like x. A new one needs one class, in one file."""

import pkgutil
from importlib import import_module

from ddim.nets.plain import PlainUNet
from ddim.nets.preconditioned import Preconditioned
from ddim.nets.registry import build, from_config, names, networks, register, sizes
from ddim.nets.unet import UNet
from ddim.nets.unet2d import UNet2D

__all__ = [
    "PlainUNet",
    "Preconditioned",
    "UNet",
    "UNet2D",
    "build",
    "from_config",
    "names",
    "networks",
    "register",
    "sizes",
]

for _module in pkgutil.iter_modules(__path__):  # each registers its networks
    import_module(f"{__name__}.{_module.name}")
