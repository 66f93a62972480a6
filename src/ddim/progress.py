"""Progress bars: the one place that imports tqdm and decides whether a bar is shown."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a tqdm bar. It is shown on a terminal only, and not inside `hidden()`.

    Args:
        iterable: what to iterate over, or None for a bar that is moved by `update`.
        options: of tqdm: `desc`, `total`, `unit` and others. `disable=True` hides this bar.
    """
    options["disable"] = True if _hidden.get() else options.get("disable")  # None: hidden without a terminal
    return tqdm(iterable, **options)


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """Within this context, show no bar; `hidden(False)` changes nothing."""
    token = _hidden.set(hide or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)
