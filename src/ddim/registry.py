"""Registries: a dictionary from names to objects, whose error for an unknown name lists the known ones."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

from ddim.errors import UserError, shown
from ddim.text import did_you_mean

Named = TypeVar("Named")


class Registry(dict[str, Named], Generic[Named]):
    """A dictionary from names to functions or classes, or other objects; an unknown name raises `UserError`.

    Args:
        kind: what is registered, for the error message, e.g. "schedule".
        extensible: whether the user's own files may register more names.
    """

    def __init__(self, kind: str, extensible: bool = True) -> None:
        super().__init__()
        self.kind, self.extensible = kind, extensible

    def register(self, name: str) -> Callable[[Named], Named]:
        """Return a decorator that registers a function or class under `name`."""

        def decorate(named: Named) -> Named:
            self[name] = named
            return named

        return decorate

    def create(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        """Call the registered function or class and return its result.

        Raises `UserError` for an unknown name, an option that it does not have, or a missing one.
        """
        registered = cast(Callable[..., Any], self[name])
        signature = inspect.signature(registered)
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            unknown = [option for option in options if option not in signature.parameters]
            problem = f"does not take {', '.join(unknown)}" if unknown else f"is {error}"  # missing a required ...
            accepted = ", ".join(signature.parameters) or "none"
            raise UserError(f"The {self.kind} {name!r} {problem}; the options it has: {accepted}.") from error
        return registered(*arguments, **options)

    def unknown(self, name: str, names: Iterable[str] | None = None) -> UserError:
        """Return the error for an unknown name; `names` are those to choose from, all if None."""
        more = ", or import the file that registers it (on the command line: --plugin FILE)" if self.extensible else ""
        known = list(self if names is None else names)
        guess = did_you_mean(name, known)
        return UserError(f"There is no {self.kind} called {name!r:.80}{guess}; choose one of {', '.join(known)}{more}.")

    def __missing__(self, name: str) -> Named:
        raise self.unknown(name)

    def __getitem__(self, name: str) -> Named:
        if not isinstance(name, str):  # None has no spelling, and a list no hash
            raise UserError(f"The name of a {self.kind} is a string, one of {', '.join(self)}; got {shown(name)}.")
        return super().__getitem__(name)
