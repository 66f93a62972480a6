"""Where the files of a data set are: in a folder of the user's, or downloaded into the cache.

Downloads are our own code by choice: they resume, also from another mirror, verify a SHA-256 checksum, and take no
more bytes and no more time than the file needs, which neither `urllib` nor `huggingface_hub` does for plain addresses.
"""

import functools
import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ddim.errors import Notice, UserError
from ddim.files import locked, refusal, unreadable, user_path
from ddim.progress import bar
from ddim.text import one_line, printable

TIMEOUT = 30.0  # seconds without a byte
PATIENCE = 60.0  # seconds without an answer, and how far the file may be behind SLOWEST
SLOWEST = 4096  # bytes a second
CHUNK = 1 << 16
ELSEWHERE = "set DDIM_CACHE to another folder"
REMEDY = "remove it and download it again"  # for a damaged file
DATA_DIR = "put the data set in a folder and name that folder as data_dir (--data-dir)"

Files = TypeVar("Files")


class _MirrorError(Exception):
    """One mirror failed, for the reason in the message; the next one is tried."""


def locate(find: Callable[[Path], Files | None], wanted: str, data_dir: str | Path | None) -> Files | None:
    """Look for a data set in `data_dir`, or, if that is None, in the folder that $DDIM_DATA names.

    Return what `find` returns; None, only without `data_dir`, if the data set is to be downloaded.

    Args:
        find: looks into a folder, and returns None if the data set is not in it.
        wanted: the files that `find` looks for, for the error message.
        data_dir: the user's folder. With it, nothing is downloaded.

    Raises:
        UserError: a folder is missing or cannot be read, or `data_dir` lacks the files.
    """
    given = data_dir if data_dir is not None else os.environ.get("DDIM_DATA") or None
    if given is None:
        return None
    folder = user_path(given)
    try:
        if data_dir is None and not folder.is_dir():
            raise UserError(
                f"DDIM_DATA names {folder}, which is not a folder; correct it, or unset it to download the files."
            )
        files = find(folder)
    except OSError as error:
        raise unreadable(error.filename or folder, error, "choose another folder") from error
    if files is None and data_dir is not None:
        problem = "does not hold the data set" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"{folder} {problem}: looked there for {wanted}; "
            "choose the folder that has them, or leave it out to download them."
        )
    return files


def cache_folder() -> Path:
    """Return the folder of downloads: $DDIM_CACHE, else $XDG_CACHE_HOME/ddim, else ~/.cache/ddim.

    Without a home folder it is in the folder for temporary files, and a `Notice` says so, once in a process.
    """
    if folder := os.environ.get("DDIM_CACHE"):
        return user_path(folder).absolute()
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return user_path(folder).absolute() / "ddim"
    try:
        return Path.home() / ".cache" / "ddim"
    except RuntimeError:
        return _cache_without_home()


@functools.cache
def _cache_without_home() -> Path:
    """Return the cache of a user without a home folder, which only this user can read."""
    user = os.geteuid()  # only POSIX knows users without a home folder
    folder = Path(tempfile.gettempdir()) / f"ddim-{user}"
    try:
        folder.mkdir(0o700, exist_ok=True)
        if folder.lstat().st_uid != user:
            raise UserError(f"There is no home folder here, and {folder} belongs to another user; {ELSEWHERE}.")
    except OSError as error:
        raise refusal(folder, error, ELSEWHERE) from error
    text = f"There is no home folder here, so downloads and decoded images are kept in {folder}; {ELSEWHERE}."
    warnings.warn(text, Notice, stacklevel=3)
    return folder


def fetch(urls: Sequence[str], to: Path, sha256: str, size: int, remedy: str = DATA_DIR) -> Path:
    """Download a file unless it exists, trying each mirror in turn.

    The bytes received so far are in `to`.part, from where this mirror, the next one or the next run continues.
    Only a complete file with the right checksum is renamed to `to`, which is returned. If several processes call
    this at once, one downloads and the others wait for it.

    Args:
        urls: http or https addresses of the same file, best first.
        to, sha256, size: the path of the downloaded file, its checksum in hexadecimal, and its bytes. No mirror may
            send more bytes, or fall a minute behind 4 kB a second.
        remedy: what to do if every mirror fails, for the error message.

    Raises:
        UserError: an address is not http(s), every mirror failed, or the disk cannot take the file.
    """
    for url in urls:
        if not url.lower().startswith(("http://", "https://")):
            raise UserError(f"Cannot download from {url!r}; give an address with http:// or https://.")
    lock = to.with_name(to.name + ".lock")
    try:
        if to.exists():
            return to
        to.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock):
            reasons = [] if to.exists() else _try_each(urls, to, sha256, size)  # another process may be faster
    except OSError as error:
        raise refusal(to, error, ELSEWHERE) from error
    if reasons:
        raise UserError(f"Could not download {to.name} ({'; '.join(reasons)}); try again later to resume, or {remedy}.")
    with suppress(OSError):  # Windows refuses while another process waits for it
        lock.unlink()
    return to


def _try_each(urls: Sequence[str], to: Path, sha256: str, size: int) -> list[str]:
    """Download `to` from the first mirror that has it. If none has, return the reason of each."""
    part = to.with_name(to.name + ".part")
    reasons = []
    for url in urls:
        try:
            if not part.exists() or _sha256(part) != sha256:
                _append(part, url, size)
            if (actual := _sha256(part)) == sha256:
                part.replace(to)
                return []
            part.unlink()
            reasons.append(f"{url}: the file has sha256 {actual} instead of {sha256}")
        except _MirrorError as reason:
            reasons.append(f"{url}: {printable(one_line(reason))[:200]}")
    return reasons


def _append(part: Path, url: str, size: int) -> None:
    """Append the missing bytes to `part`, or start again if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    have = have if have < size else 0  # as long as the file, and not the file
    with _open(url, have) as response:
        if response.status != 206:
            have = 0  # the server sends the file from its start
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _MirrorError("the server sent another part of the file than requested")
        if response.length is not None and have + response.length != size:
            raise _MirrorError(f"the file has {have + response.length:,} bytes there instead of {size:,}")
        with (
            part.open("ab" if have else "wb") as file,
            bar(desc=part.stem, total=size, initial=have, unit="B", unit_scale=True) as bytes_bar,
        ):
            for chunk in _chunks(response, size - have):
                file.write(chunk)
                bytes_bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # on the disk before it is renamed
        if response.length is not None and (arrived := part.stat().st_size) < size:
            raise _MirrorError(f"the connection broke after {arrived:,} of {size:,} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    """Request the file from byte `start` on, in a thread: a look-up of the address, or a header, may never end."""
    headers = {"User-Agent": "ddim"} | ({"Range": f"bytes={start}-"} if start else {})
    answers: SimpleQueue[HTTPResponse | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urlopen(Request(url, headers=headers), timeout=TIMEOUT))
        except Exception as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except Empty:
        raise _MirrorError(f"no answer within {PATIENCE:.0f} s") from None
    if isinstance(answer, HTTPError):
        answer.close()
        raise _MirrorError(f"HTTP {answer.code} {answer.reason}") from answer
    if isinstance(answer, Exception):
        raise _MirrorError(str(getattr(answer, "reason", answer))) from answer
    if not isinstance(answer, HTTPResponse):
        raise _MirrorError("the server points to an address without http:// or https://")
    return answer


def _chunks(response: HTTPResponse, missing: int) -> Iterator[bytes]:
    """Yield up to `missing` bytes of the body. An error of the network is not taken for an error of the disk."""
    start, got = time.monotonic(), 0
    try:
        while got < missing and (chunk := response.read1(min(CHUNK, missing - got))):
            got += len(chunk)
            yield chunk
            seconds = time.monotonic() - start
            if seconds > PATIENCE + got / SLOWEST:
                raise _MirrorError(f"the server sent only {got:,} bytes in {seconds:.0f} s")
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(f"the connection broke: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
