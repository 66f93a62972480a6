"""Prepared networks in the cache folder: each is whole or absent, under its key, and their number is limited."""

import atexit
import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ddim.data.download import cache_folder
from ddim.errors import UserError
from ddim.files import ABANDONED

ENTRIES, BYTES = 64, 2 * 2**30  # kept at most; those used longest ago are removed first


def keep(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of what `make(folder)` writes: made earlier, or now.

    Where the cache folder cannot be written, it is a temporary folder that the process removes at its end.
    """
    try:
        home = folder()
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".{uuid.uuid4().hex}"
        place = home / f"{name}-{key[:32]}"
        if place.is_dir():
            os.utime(place)  # used now
            return place
        forget(name, key)  # a file, or a link to nowhere
        draft.mkdir()
    except (OSError, UserError):
        temporary = Path(tempfile.mkdtemp(prefix="ddim-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        make(temporary)
        return temporary
    try:
        make(draft)
        with contextlib.suppress(OSError):  # another process was faster: its folder is as good
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _clean(home, place)
    return place


def forget(name: str, key: str) -> None:
    """Remove what `keep` keeps under this key, because it is damaged or stale."""
    with contextlib.suppress(OSError, UserError):
        place = folder() / f"{name}-{key[:32]}"
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()


def folder() -> Path:
    """Return the folder of prepared networks. Raises `UserError` where the user has no cache folder."""
    return cache_folder() / "backends"


def _clean(home: Path, newest: Path) -> None:
    """Remove abandoned drafts, and the entries used longest ago until the rest is within the limits."""
    with contextlib.suppress(OSError):
        for draft in home.glob(".*"):
            if time.time() - draft.stat().st_mtime > ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)
        entries = sorted((one for one in home.glob("*-*") if one.is_dir()), key=lambda one: one.stat().st_mtime)
        sizes = {one: sum(file.stat().st_size for file in one.glob("*")) for one in entries}
        for one in entries:
            if one != newest and (len(sizes) > ENTRIES or sum(sizes.values()) > BYTES):
                shutil.rmtree(one, ignore_errors=True)
                del sizes[one]
