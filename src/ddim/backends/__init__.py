"""Backends: what computes the network of `model.sample` on this machine. A decorator registers each.

The network itself, in PyTorch, is the reference. Training, `model(x, at)`, `encode`, `decode` and `ddim verify` call
it. A backend serves sampling only, after its output has been compared with that of the reference.
"""

import pkgutil
from importlib import import_module

from ddim.backends.base import Backend, Source, backends, names, register
from ddim.backends.serving import serve

__all__ = ["Backend", "Source", "backends", "names", "register", "serve"]

for _module in pkgutil.iter_modules(__path__):  # a module registers its backends
    import_module(f"{__name__}.{_module.name}")
