"""The lock of a run folder: one training at a time, and nothing to clean up after a process that was killed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ddim.errors import UserError
from ddim.files import refusal


@contextmanager
def exclusive(folder: Path, main: bool) -> Iterator[None]:
    """Within this context, hold the lock of a run folder, if this is the main process: it alone writes.

    The operating system releases the lock when the process ends, however it ends. Folders that were created for
    the lock and are empty at the end are removed.

    Args:
        folder: the run folder; created if missing.
        main: whether this process is the main one; any other takes no lock.

    Raises:
        UserError: another process holds the lock, or the folder cannot be created.
    """
    if not main:
        yield
        return
    lock = FileLock(folder / ".lock")
    created: list[Path] = []
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
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
            Path(lock.lock_file).unlink()  # while it is held: a process that has it open then sees that it is gone
        lock.release()
        with suppress(OSError):
            for path in created:
                path.rmdir()
