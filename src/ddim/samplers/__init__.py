"""Samplers: one short file each, all driven by `trajectory`."""

from collections.abc import Callable
from typing import Any

from ddim.errors import UserError
from ddim.registry import Registry
from ddim.samplers.adams import IPNDM, PLMS, PNDM
from ddim.samplers.base import Sampler, State, trajectory
from ddim.samplers.ddim import DDIM, DDPM
from ddim.samplers.deis import DEIS
from ddim.samplers.dpmpp_2m import DPMpp2M, DPMpp2MSDE
from ddim.samplers.dpmpp_3m import DPMpp3M
from ddim.samplers.er_sde import ERSDE
from ddim.samplers.heun import Heun
from ddim.samplers.singlestep import DPM2, DPM3, DPMpp2S
from ddim.samplers.unipc import UniPC

samplers: Registry[Callable[..., Sampler]] = Registry("sampler")
samplers.update(
    {
        "ddim": DDIM,
        "ddpm": DDPM,
        "plms": PLMS,
        "pndm": PNDM,
        "ipndm": IPNDM,
        "deis": DEIS,
        "heun": Heun,
        "dpm-2": DPM2,
        "dpm-3": DPM3,
        "dpmpp-2s": DPMpp2S,
        "dpmpp-2m": DPMpp2M,
        "dpmpp-3m": DPMpp3M,
        "dpmpp-2m-sde": DPMpp2MSDE,
        "unipc": UniPC,
        "er-sde": ERSDE,
    }
)


def get(name: str, **options: Any) -> Sampler:
    """The sampler called `name`; every name works without options.

    Args:
        name: one of `names()`.
        options: as its class takes them, e.g. get("ddim", eta=0.5).

    Raises:
        UserError: an unknown name, or an option that the sampler does not have.
    """
    maker = samplers[name]
    try:
        return maker(**options)
    except TypeError as error:
        raise UserError(f"The sampler {name!r} does not take {', '.join(options)}: leave it out.") from error


def names() -> list[str]:
    """The names that `get` takes."""
    return list(samplers)


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
    "trajectory",
]
