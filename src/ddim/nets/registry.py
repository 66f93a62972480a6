"""The registry of networks: from a name and a size to a module, and from a saved config back to it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from ddim import plugins
from ddim.errors import UserError, number
from ddim.nets.preconditioned import Preconditioned
from ddim.registry import Registry

Network = TypeVar("Network", bound=nn.Module)


class Networks(Registry[type[nn.Module]]):
    """The registered networks; "module:Class" registers a class of a plugin that the user has named, and no other."""

    def __missing__(self, name: str) -> type[nn.Module]:
        plugin, colon, cls = name.rpartition(":")
        module = plugins.module_name(plugin)
        if not colon:
            raise self.unknown(name)
        if module not in plugins.modules:
            raise UserError(
                f"The network {name!r} is a class of your own, and a model may not import it by itself; name the file "
                f"or module {module} by --plugin (in Python: ddim.plugins.load), or load the model with "
                "network=YourModule(...)."
            )
        network = getattr(plugins.modules[module], cls, None)
        if not (isinstance(network, type) and issubclass(network, nn.Module)):
            raise UserError(f"The plugin {module} has no torch.nn.Module called {cls!r}; check the name of the class.")
        return register(name)(network)


networks = Networks("network")


def register(name: str) -> Callable[[type[Network]], type[Network]]:
    """Register a network class, so that `build`, `--network`, recipes and saved models know it by `name`.

    The class is called as `(channels, *, classes=None, **options)` and its modules as `network(x, t, label)`, see
    `ddim.Denoiser`. Its attribute `sizes` names sets of options, e.g. `sizes = {"small": {"width": 32}}`; without
    it the only size is "small", with no options. Each new network records `config`, the name and the arguments
    that it was created with, which is saved with a model. The arguments must be plain data, as JSON has it.

    A registered name is replaced. Raises `UserError` for anything but a class.
    """

    def record(cls: type[Network]) -> type[Network]:
        if not isinstance(cls, type):
            raise UserError(f"The network {name!r} must be a class, a subclass of torch.nn.Module; got {cls!r}.")
        create, signature = cls.__init__, inspect.signature(cls)

        @functools.wraps(create)
        def create_and_record(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            create(self, *args, **kwargs)
            if type(self) is cls:
                self.config = {"name": name, **_arguments(signature, *args, **kwargs)}  # type: ignore[assignment]

        cls.__init__ = create_and_record  # type: ignore[method-assign]
        networks[name] = cls
        return cls

    return record


def build(name: str, channels: int, size: str = "small", classes: int | None = None, **changes: Any) -> nn.Module:
    """Return a new network of a registered kind and size.

    Args:
        name, size: one of `names()`, and one of `sizes(name)`.
        channels: number of channels of the image.
        classes: number of classes; None, for a network without labels, is not passed on.
        changes: options of the network that replace those of the size, e.g. dropout=0.2.

    Raises:
        UserError: an unknown name, size or option.
    """
    channels = number("The number of channels", channels, int, 1)
    classes = None if classes is None else number("The number of classes", classes, int, 1)
    options = {**sizes(name)[size], **({} if classes is None else {"classes": classes}), **changes}
    return networks.create(name, channels, **options)  # type: ignore[no-any-return]


def from_config(config: dict[str, Any]) -> nn.Module:
    """Return a network with this `config`, with new weights.

    Raises:
        UserError: the name is not registered, or the network does not have an option.
    """
    options = dict(config)
    name = options.pop("name")
    if name == "preconditioned":
        return Preconditioned(from_config(options.pop("network")), **options)
    if name not in networks and ":" not in name:
        raise UserError(
            f"The network {name!r} is not registered (only {', '.join(networks)}); first import the file that "
            "registers it (on the command line: --plugin FILE), or load the model with network=YourModule(...)."
        )
    return networks.create(name, **options)  # type: ignore[no-any-return]


def names() -> list[str]:
    """Return the names of the registered networks."""
    return list(networks)


def sizes(name: str) -> dict[str, dict[str, Any]]:
    """Return the named sizes of a network: name -> options. Raises `UserError` for an unknown network or size."""
    table: Registry[dict[str, Any]] = Registry(f"size of {name}", extensible=False)
    table.update(getattr(networks[name], "sizes", {"small": {}}))
    return table


def _arguments(signature: inspect.Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call with their defaults, as JSON has them."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    table: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        table |= value if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in table.items()}
