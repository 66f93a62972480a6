"""One training in a folder at a time: the others are refused, and a killed one leaves nothing to clean up."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ddim.errors import UserError
from ddim.files import refusal


@contextmanager
def owning(folder: Path, main: bool) -> Iterator[None]:
    """Own the run folder within, if this is the main process: it alone writes.

    The system takes the lock back when the process ends, however it ends. Folders that are made for it, and then
    hold nothing after all, are removed.

    Raises:
        UserError: another process owns it, or the folder cannot be made.
    """
    if not main:
        yield
        return
    lock = FileLock(folder / ".lock")
    made: list[Path] = []
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"Another process is training in {folder}; wait for it, or choose another --out."
        ) from error
    except OSError as error:
        raise refusal(folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held: whoever opened it before sees that it is gone
        lock.release()
        with suppress(OSError):
            for one in made:
                one.rmdir()
