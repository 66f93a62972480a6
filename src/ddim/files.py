"""Files that are whole or absent: nothing else in the package writes to disk directly."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddim.errors import UserError


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it becomes `path`, on failure it is removed.

    Args:
        path: the file to write. Missing parent folders are made.

    Yields:
        A path in the same folder, to be written by the caller.

    Raises:
        UserError: the folder cannot be written or the disk is full. What stood at `path` still does.
    """
    path = Path(path)
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        draft = Path(name)
        yield draft
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is as readable as any other
        draft.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"Could not write {path}: {reason}; free some space or choose another folder, then try again."
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises `UserError` as `writing` does."""
    with writing(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`, whole or not at all. Raises `UserError` as `writing` does."""
    write_bytes(path, text.encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
