"""One process at a time: the others wait, and find the work done."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: every process does the work for itself, and the last to finish leaves its file
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within, no other process of this machine is in here with the same `path`, an empty file that is made.

    The system frees the lock of a process that dies. Where locks or the file cannot be had, nothing waits: callers
    write through `files.writing`, so two at once do no harm but to do the work twice.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                fcntl.flock(stack.enter_context(path.open("ab")), fcntl.LOCK_EX)
        yield
