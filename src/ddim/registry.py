"""Names for things: the one place where a name becomes an object, and where an unknown name is refused."""

from collections.abc import Callable
from typing import Generic, TypeVar

from ddim.errors import UserError

Maker = TypeVar("Maker", bound=Callable[..., object])


class Registry(dict[str, Maker], Generic[Maker]):
    """A dictionary from names to the functions that make what is named.

    Args:
        kind: what the names name, for the error message, e.g. "schedule".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[Maker], Maker]:
        """Decorator that files a function or class under `name`."""

        def file(maker: Maker) -> Maker:
            self[name] = maker
            return maker

        return file

    def __missing__(self, name: str) -> Maker:
        raise UserError(f"There is no {self.kind} called {name!r}; choose one of {', '.join(self)}.")
