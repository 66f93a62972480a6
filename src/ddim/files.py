"""Files that are whole or absent: nothing else in the package writes results to disk directly."""

import contextlib
import errno
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddim.errors import UserError


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success that file becomes `path`, on failure it is removed.

    Args:
        path: the file to write. Missing parent folders are made.

    Yields:
        A path in the same folder, with the same suffix, for the caller to write.

    Raises:
        UserError: the folder cannot be written or the disk is full. What stood at `path` still does.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("r+b") as written:  # Windows can only flush what may be written
            os.fsync(written.fileno())  # on the disk before it takes the name
        draft.replace(path)
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # absent after success; its folder may be absent too
            draft.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises `UserError` as `writing` does."""
    with writing(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`, whole or not at all. Raises `UserError` as `writing` does."""
    write_bytes(path, text.encode())


def json_values(value: Any) -> Any:
    """Return nested dicts, lists and tuples with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: str | Path, line: str) -> None:
    """Add one line to a text file. Raises `UserError` if it cannot be written; the file then is as it was."""
    rest = f"{line}\n".encode()
    try:
        with Path(path).open("ab", buffering=0) as lines:
            end = lines.tell()
            try:
                while rest:  # a disk that fills up takes a part; asked for the rest, it says why
                    rest = rest[lines.write(rest) :]
            except OSError:
                lines.truncate(end)
                raise
    except OSError as error:
        raise refusal(path, error) from error


def sweep(folder: str | Path, *names: str) -> None:
    """Remove the drafts that killed processes left in a folder.

    Args:
        folder: where to look; it may be absent. Nobody else may be writing these files.
        names: of the files that were being written, without their suffixes; "*" stands for anything.
    """
    for name in names:
        for draft in Path(folder).glob(f".{name}.{'[0-9a-f]' * 8}.*"):
            with contextlib.suppress(OSError):
                draft.unlink()


def refusal(path: str | Path, error: OSError) -> UserError:
    """The sentence for a file that could not be written."""
    remedy = (
        "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "check its permissions"
    )
    return UserError(f"Could not write {path}: {error.strerror or error}; {remedy} or choose another folder.")
