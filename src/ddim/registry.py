"""Names for things: the one place where a name becomes an object, and where an unknown name is refused."""

from collections.abc import Callable
from typing import Generic, TypeVar

from ddim.errors import UserError

Named = TypeVar("Named")


class Registry(dict[str, Named], Generic[Named]):
    """A dictionary from names to what they stand for, mostly functions that make something.

    Args:
        kind: what the names name, for the error message, e.g. "schedule".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[Named], Named]:
        """Decorator that files a function or class under `name`."""

        def file(named: Named) -> Named:
            self[name] = named
            return named

        return file

    def __missing__(self, name: str) -> Named:
        raise UserError(f"There is no {self.kind} called {name!r}; choose one of {', '.join(self)}.")
