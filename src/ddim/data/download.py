"""Files from the web: from the first mirror that has them, resumed where they broke off, and verified."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from ddim.errors import UserError

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
DATA_DIR = "put the data set in a folder and name that folder as data_dir (--data-dir)"


class _MirrorError(Exception):
    """Why one mirror did not give the file: the next one is tried."""


def cache_folder() -> Path:
    """Where downloads are kept: $DDIM_CACHE, else $XDG_CACHE_HOME/ddim, else ~/.cache/ddim."""
    if chosen := os.environ.get("DDIM_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddim"


def fetch(urls: Sequence[str], to: Path, sha256: str, remedy: str = DATA_DIR) -> Path:
    """Download a file unless it is there already, trying each mirror in turn.

    What has arrived stays in `to`.part, from where this mirror, the next one or the next run goes on.
    Only a complete file with the right checksum gets the name `to`.

    Args:
        urls: http or https addresses of the same bytes, best first.
        to: the file to make.
        sha256: the checksum of those bytes, in hexadecimal.
        remedy: what to do if no mirror gives them, for the error message.

    Returns:
        `to`.

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
                _complete(part, url, sha256)
            except _MirrorError as reason:
                reasons.append(f"{url}: {reason}")
            else:
                return part.replace(to)
    except OSError as error:
        raise UserError(
            f"Could not write {part}: {error.strerror or error}; free some space, or set DDIM_CACHE to "
            "another folder."
        ) from error
    raise UserError(f"Could not download {to.name} ({'; '.join(reasons)}); try again later to resume, or {remedy}.")


def _complete(part: Path, url: str, sha256: str) -> None:
    """Bring `part` to its full length and check it; one that is wrong at full length is removed."""
    if part.exists() and _sha256(part) == sha256:
        return
    _append(part, url)
    if (actual := _sha256(part)) != sha256:
        part.unlink()
        raise _MirrorError(f"the file has sha256 {actual} instead of {sha256}")


def _append(part: Path, url: str) -> None:
    """Add to `part` what it lacks, or start it anew if the server cannot go on from there."""
    have = part.stat().st_size if part.exists() else 0
    with _open(url, have) as response:
        if response.status != 206:
            have = 0  # the server sends the whole file
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _MirrorError("the server sent another part of the file than was asked for")
        total = None if response.length is None else have + response.length
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())  # on the disk before it takes the name
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _MirrorError(f"the connection broke after {arrived} of {total} bytes")


def _open(url: str, start: int) -> HTTPResponse:
    """The file from byte `start` on, or the whole of it."""
    headers = {"User-Agent": "ddim"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # there is no such byte: what we have is longer than the file
            return _open(url, 0)
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(str(getattr(error, "reason", error))) from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body; a fault of the network is not taken for one of the disk."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _MirrorError(f"the connection broke: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
