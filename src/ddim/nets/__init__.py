"""Networks: any module that maps (x, t, label) to an image-shaped tensor; two are written here."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ddim.nets import plain, unet
from ddim.nets.plain import PlainUNet
from ddim.nets.unet import UNet
from ddim.registry import Registry

networks: Registry[Callable[..., nn.Module]] = Registry("network")
networks.update({"unet": UNet, "plain": PlainUNet})

_sizes: dict[str, Registry[dict[str, Any]]] = {}
for _name, _table in (("unet", unet.SIZES), ("plain", plain.SIZES)):
    _sizes[_name] = Registry(f"size of {_name}")
    _sizes[_name].update(_table)


def build(name: str, channels: int, size: str = "small", classes: int | None = None, **changes: Any) -> nn.Module:
    """A new network of a named kind and size.

    Args:
        name: "unet" or "plain".
        channels: of the image.
        size: "tiny", "micro" and "mini" (unet alone), "small" or "base".
        classes: number of classes, or None for a network without labels.
        changes: options of the network that replace those of the size, e.g. dropout=0.2.

    Raises:
        UserError: an unknown name or size.
    """
    maker = networks[name]
    return maker(channels, **{**_sizes[name][size], "classes": classes, **changes})


def from_config(config: dict[str, Any]) -> nn.Module:
    """The network that has this `config`, with new weights."""
    options = dict(config)
    return networks[options.pop("name")](**options)


def names() -> list[str]:
    """The networks that have a name."""
    return list(networks)


__all__ = ["PlainUNet", "UNet", "build", "from_config", "names"]
