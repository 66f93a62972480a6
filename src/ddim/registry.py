"""Registries: a dictionary from names to objects, whose error for an unknown name lists the known ones."""

from collections.abc import Callable
from typing import Generic, TypeVar

from ddim.errors import UserError

Named = TypeVar("Named")


class Registry(dict[str, Named], Generic[Named]):
    """A dictionary from names to objects, mostly functions or classes.

    Args:
        kind: what is registered, for the error message, e.g. "schedule".

    Raises:
        UserError: on indexing with an unknown name.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[Named], Named]:
        """Return a decorator that registers a function or class under `name`."""

        def decorate(named: Named) -> Named:
            self[name] = named
            return named

        return decorate

    def __missing__(self, name: str) -> Named:
        raise UserError(f"There is no {self.kind} called {name!r}; choose one of {', '.join(self)}.")
