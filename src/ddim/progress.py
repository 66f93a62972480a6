"""Progress: the one place that imports tqdm, and that decides between a bar, lines of text, and nothing."""

import io
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

FIRST, LAST = 30.0, 300.0  # seconds between two lines of text: at first, and at most, in a task of many hours

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a tqdm bar: a bar in a terminal and in a notebook, elsewhere lines of text at intervals.

    Nothing is shown inside `hidden()`. The lines go to stderr, after 30 seconds, and later every tenth of the time so
    far, at most every 5 minutes. A bar is never wider than the terminal.

    Args:
        iterable: what to iterate over, or None for a bar that is moved by `update`.
        options: of tqdm: `desc`, `total`, `unit` and others. `disable=True` hides this bar.
    """
    options = {"dynamic_ncols": True, **options, "disable": _hidden.get() or bool(options.get("disable"))}
    if in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets the bar is text
            from tqdm.auto import tqdm as notebook_bar
        return notebook_bar(iterable, **options)
    return (tqdm if sys.stderr.isatty() else _Lines)(iterable, **options)


def note(sentence: str) -> None:
    """Print a sentence to stderr, e.g. how long a task will take; inside `hidden()`, print nothing."""
    if not _hidden.get():
        print(sentence, file=sys.stderr)


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """Within this context, show no bar and no note; `hidden(False)` changes nothing."""
    token = _hidden.set(hide or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, which shows bars without a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class _Lines(tqdm):  # type: ignore[misc]
    """A bar as lines of text, e.g. "sampling 5000: 320/1580 step, 01:10 so far, 04:36 left, 4.57step/s"."""

    def __init__(self, iterable: Iterable[Any] | None = None, **options: Any) -> None:
        self.due = FIRST  # seconds from the start
        options |= {
            "dynamic_ncols": False,
            "file": io.StringIO(),  # for what moves the cursor
        }
        super().__init__(iterable, mininterval=1.0, miniters=1, delay=FIRST, **options)

    def refresh(self, *_: Any, **__: Any) -> None:
        """Print a line if one is due."""
        elapsed = self.format_dict["elapsed"]
        if elapsed >= self.due:
            self.due = elapsed + min(LAST, max(FIRST, elapsed / 10))
            self.display()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print the line: `refresh` does so, and the end of the bar, unless that comes before the first line."""
        if msg is None:
            moved = self.n > self.initial  # else its rate is unknown
            total = "/{total_fmt}" if self.total else ""
            left = (", {remaining} left" if self.total else "") + ", {rate_fmt}" if moved else ""
            self.bar_format = f"{{desc}}: {{n_fmt}}{total} {{unit}}, {{elapsed}} so far{left}{{postfix}}"
            print(self, file=sys.stderr, flush=True)
