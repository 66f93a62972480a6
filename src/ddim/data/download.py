"""Where the files of a data set are: in a folder of the user's, or downloaded into the cache.

Downloads are our own code by choice: they resume, also from another mirror, and verify a SHA-256 checksum, which
neither `urllib` nor `huggingface_hub` does for plain addresses.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ddim.errors import UserError
from ddim.progress import bar

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
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
        UserError: `data_dir` is missing or lacks the files, or a folder cannot be read.
    """
    given = data_dir if data_dir is not None else os.environ.get("DDIM_DATA") or None
    if given is None:
        return None
    folder = Path(given).expanduser()
    try:
        files = find(folder)
    except OSError as error:
        raise UserError(
            f"Could not read {error.filename or folder}: {error.strerror or error}; "
            "allow reading it or choose another folder."
        ) from error
    if files is None and data_dir is not None:
        problem = "does not hold the data set" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"{folder} {problem}: looked there for {wanted}; "
            "choose the folder that has them, or leave it out to download them."
        )
    return files


def cache_folder() -> Path:
    """Return the folder of downloads: $DDIM_CACHE, else $XDG_CACHE_HOME/ddim, else ~/.cache/ddim."""
    if folder := os.environ.get("DDIM_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddim"


def fetch(urls: Sequence[str], to: Path, sha256: str, remedy: str = DATA_DIR) -> Path:
    """Download a file unless it exists, trying each mirror in turn.

    The bytes received so far are in `to`.part, from where this mirror, the next one or the next run continues.
    Only a complete file with the right checksum is renamed to `to`, which is returned.

    Args:
        urls: http or https addresses of the same file, best first.
        to, sha256: the path of the downloaded file, and its checksum in hexadecimal.
        remedy: what to do if every mirror fails, for the error message.

    Raises:
        UserError: an address is not http(s), every mirror failed, or the disk cannot take the file.
    """
    for url in urls:
        if not url.lower().startswith(("http://", "https://")):
            raise UserError(f"Cannot download from {url!r}; give an address with http:// or https://.")
    if to.exists():
        return to
    part = to.with_name(to.name + ".part")
    reasons = []
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                if not part.exists() or _sha256(part) != sha256:
                    _append(part, url)
                if (actual := _sha256(part)) == sha256:
                    return part.replace(to)
                part.unlink()
                reasons.append(f"{url}: the file has sha256 {actual} instead of {sha256}")
            except _MirrorError as reason:
                reasons.append(f"{url}: {reason}")
    except OSError as error:
        raise UserError(
            f"Could not write {part}: {error.strerror or error}; free some space, or set DDIM_CACHE to another folder."
        ) from error
    raise UserError(f"Could not download {to.name} ({'; '.join(reasons)}); try again later to resume, or {remedy}.")


def _append(part: Path, url: str) -> None:
    """Append the missing bytes to `part`, or start again if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    with _open(url, have) as response:
        if response.status != 206:
            have = 0  # the server sends the file from its start
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _MirrorError("the server sent another part of the file than requested")
        total = None if response.length is None else have + response.length
        with (
            part.open("ab" if have else "wb") as file,
            bar(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True) as bytes_bar,
        ):
            for chunk in _chunks(response):
                file.write(chunk)
                bytes_bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # on the disk before it is renamed
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _MirrorError(f"the connection broke after {arrived} of {total} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    """Request the file from byte `start` on."""
    headers = {"User-Agent": "ddim"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # no such byte: the part is longer than the file
            return _open(url, 0)
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(str(getattr(error, "reason", error))) from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body. An error of the network is not taken for an error of the disk."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _MirrorError(f"the connection broke: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
