"""Write files that are whole or absent, and read tables and tensors; nothing here imports torch at the top."""

import contextlib
import errno
import functools
import json
import math
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from ddim.errors import UserError, shown
from ddim.text import one_line

HEX = "[0-9a-f]" * 8
ABANDONED = 24 * 60 * 60  # seconds since a temporary file was last written to: no process takes so long
ELSEWHERE = "choose another folder"
JSON_BYTES = 16 * 2**20  # of a table: larger files are not read
JSON_DEPTH = 32  # of a table: lists and tables within each other
HEADER_BYTES = 100_000_000  # of a safetensors file: the limit of its format

if TYPE_CHECKING:
    from torch import Tensor


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave, with `~` expanded to the home folder.

    Raises `UserError` for what is no path, for an empty one, and for `~` where the user has no home folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"A path must be a string or a pathlib.Path; got {shown(path)}.")
    if not str(path):
        raise UserError("The path is empty; give the name of a file or folder, or . for the working folder.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path} starts with ~, but there is no home folder here; give the whole path.") from error


@contextlib.contextmanager
def writing(path: str | Path, elsewhere: str = ELSEWHERE) -> Iterator[Path]:
    """Within this context, write to the temporary file that it yields, in the same folder, with the same suffix.

    On success it becomes `path`. On failure it is removed, and an existing file `path` is unchanged. Missing parent
    folders are created. The temporary files that killed processes left in the folder more than a day ago are removed.

    Args:
        path: the file to write.
        elsewhere: how to choose another folder, for the error message.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}.ddim-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_abandoned(path.parent.absolute())
        yield draft
        with draft.open("r+b") as written:  # Windows can only flush writable files
            os.fsync(written.fileno())  # on the disk before it is renamed
        draft.replace(path)
    except OSError as error:
        raise refusal(path, error, elsewhere) from error
    finally:
        with contextlib.suppress(OSError):  # absent after success; its folder may be absent too
            draft.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises `UserError` as `writing` does."""
    with writing(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`, whole or not at all. Raises `UserError` as `writing` does.

    What UTF-8 cannot write, the letters of a path that is not UTF-8, becomes a question mark.
    """
    write_bytes(path, text.encode(errors="replace"))


def json_values(value: Any, digits: int = 17) -> Any:
    """Return a value for JSON: lists for tuples, numbers in so many digits, and None for those that cannot be drawn.

    These are numbers that are not finite, and integers of 64 bits or more.
    """
    if isinstance(value, dict):
        return {key: json_values(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return None if type(value) is int and abs(value) >= 2**63 else value


def read_table(path: str | Path) -> dict[str, Any]:
    """Return the table in a JSON file of at most `JSON_BYTES`, nested at most `JSON_DEPTH` deep.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no JSON, no table, too large, or nested too deep.
    """
    path = Path(path)
    if path.stat().st_size > JSON_BYTES:
        raise ValueError(f"it is larger than {JSON_BYTES // 2**20} MiB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"it is nested more than {JSON_DEPTH} deep") from error
    except UnicodeDecodeError as error:  # whose text would hold the whole file
        raise ValueError(f"it is no UTF-8 text at byte {error.start}") from error
    if not isinstance(content, dict):
        raise ValueError("it is no table")
    level: list[Any] = [content]
    for _ in range(JSON_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [item for items in inner for item in items]
    if level:
        raise ValueError(f"it is nested more than {JSON_DEPTH} deep")
    return content


def as_table(content: object) -> dict[str, Any]:
    """Return `content` if it is a table, else an empty one."""
    return content if isinstance(content, dict) else {}


class TensorsHeader(NamedTuple):
    """What a safetensors file says at its start: the shape of each tensor by name, and the file's metadata."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def tensors_header(path: str | Path) -> TensorsHeader:
    """Return the header of a safetensors file, whose tensors are not read.

    Raises:
        OSError: the file is missing or cannot be read.
        SafetensorError: it is no safetensors file, or not as long as its header says.
    """
    from safetensors import SafetensorError

    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= min(size - 8, HEADER_BYTES) else b""
    try:
        table = json.loads(text)
        metadata = table.pop("__metadata__", {})
        shapes = {name: tuple(map(int, about["shape"])) for name, about in table.items()}
        end = max((int(about["data_offsets"][1]) for about in table.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SafetensorError("it has no header of the safetensors format") from error
    if size != 8 + length + end:
        raise SafetensorError(f"it has {size:,} bytes, and its header announces {8 + length + end:,}")
    return TensorsHeader(shapes, metadata)


def read_tensors(path: str | Path) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors file. The path may have any name: safetensors itself opens UTF-8 names only.

    Raises:
        OSError: the file is missing or cannot be read.
        SafetensorError: it is no safetensors file, is damaged, or holds a dtype that torch does not have.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    tensors_header(path)  # before the whole file is read
    try:
        return load(Path(path).read_bytes())
    except KeyError as error:
        raise SafetensorError(f"it holds tensors of the dtype {error}, which torch does not have") from error


def append_line(path: str | Path, line: str) -> None:
    """Append a line to a text file. Raises `UserError` if that fails; the file is then unchanged."""
    rest = f"{line}\n".encode()
    try:
        with Path(path).open("ab", buffering=0) as lines:
            end = lines.tell()
            try:
                while rest:  # a full disk takes a part; writing the rest raises the error
                    rest = rest[lines.write(rest) :]
            except OSError:
                lines.truncate(end)
                raise
    except OSError as error:
        raise refusal(path, error) from error


def sweep(folder: str | Path, *names: str) -> None:
    """Remove the temporary files that killed processes left in a folder, which may be missing.

    `names` are the files that were being written, without suffixes; "*" matches any. No other process may be
    writing them: the caller holds the lock.
    """
    for name in names:
        for draft in Path(folder).glob(f".{name}.*{HEX}*"):  # older ones are not marked as ddim's
            with contextlib.suppress(OSError):
                draft.unlink()


@functools.cache  # once in a process: a folder may hold many files
def _sweep_abandoned(folder: Path) -> None:
    """Remove the temporary files that nobody has written to for a day. Other processes may be writing here."""
    with contextlib.suppress(OSError):
        for draft in folder.glob(f".*.ddim-{HEX}*"):
            if time.time() - draft.lstat().st_mtime > ABANDONED:
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Within this context, hold the lock file `path`, after waiting for another process that holds it.

    Yields whether the lock is held; False where the file system refuses it or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path))
            held = True
        except (OSError, NotImplementedError):
            held = False
        yield held


@contextlib.contextmanager
def exclusive(folder: Path, doing: str) -> Iterator[None]:
    """Within this context, hold the lock of a folder, `.lock`.

    The operating system releases the lock when the process ends, however it ends. Folders that were created for
    the lock and are empty at the end are removed.

    Args:
        folder: is created if it is missing.
        doing: what the holder of the lock does, for the error message, e.g. "training in runs/a".

    Raises:
        UserError: another process holds the lock, or the folder cannot be created.
    """
    lock = FileLock(folder / ".lock")
    created: list[Path] = []
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"Another process is {doing}; wait for it, or choose another --out.") from error
    except OSError as error:
        raise refusal(folder, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held: a process that has it open then sees that it is gone
        lock.release()
        with contextlib.suppress(OSError):
            for path in created:
                path.rmdir()


def refusal(path: str | Path, error: OSError, elsewhere: str = ELSEWHERE) -> UserError:
    """Return the error for a file that could not be written; `elsewhere` says how to choose another folder."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if full else "check its permissions"
    return UserError(f"Could not write {path}: {error.strerror or error}; {remedy} or {elsewhere}.")


def unreadable(path: str | Path, error: Exception, remedy: str) -> UserError:
    """Return the error for a file that the system does not let us read, or that is damaged: `remedy` is for those."""
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"Could not read {path}: {error.strerror}; allow reading it or choose another one.")
    reason = one_line(error) or type(error).__name__
    if isinstance(error, LookupError):  # whose message is the missing key alone
        reason = f"{type(error).__name__}: {reason}"
    return UserError(f"Could not read {path}, it is damaged ({reason}); {remedy}.")
