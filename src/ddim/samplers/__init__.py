"""Samplers: one short file each, all driven by `trajectory`."""

from collections.abc import Callable
from typing import Any

from ddim.errors import UserError
from ddim.registry import Registry
from ddim.samplers.base import Sampler, State, trajectory
from ddim.samplers.ddim import DDIM, DDPM

samplers: Registry[Callable[..., Sampler]] = Registry("sampler")
samplers.update({"ddim": DDIM, "ddpm": DDPM})


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


__all__ = ["DDIM", "DDPM", "Sampler", "State", "get", "names", "trajectory"]
