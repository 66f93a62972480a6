"""Samplers, all run by `trajectory`: one file per family of methods, each registered by its own decorator.

A new file in this package is found without another edit. A sampler in your own module is registered with
`@ddim.samplers.register("name")`.
"""

import pkgutil
from importlib import import_module

# The order of these imports is the order of `names()`.
# isort: off
from ddim.samplers.base import Sampler, State, get, names, register, samplers, trajectory
from ddim.samplers.ddim import DDIM, DDPM
from ddim.samplers.pndm import IPNDM, PLMS, PNDM
from ddim.samplers.deis import DEIS
from ddim.samplers.heun import Heun
from ddim.samplers.dpm_solver import DPM2, DPM3, DPMpp2S
from ddim.samplers.dpmpp import DPMpp2M, DPMpp2MSDE, DPMpp3M
from ddim.samplers.unipc import UniPC
from ddim.samplers.er_sde import ERSDE
from ddim.samplers.corrected import Corrected
# isort: on

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "DPM2",
    "DPM3",
    "ERSDE",
    "IPNDM",
    "PLMS",
    "PNDM",
    "Corrected",
    "DPMpp2M",
    "DPMpp2MSDE",
    "DPMpp2S",
    "DPMpp3M",
    "Heun",
    "Sampler",
    "State",
    "UniPC",
    "get",
    "names",
    "register",
    "samplers",
    "trajectory",
]
