"""A folder of images: what lies in it, and what that makes of classes and splits."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from ddim.data.catalogue import Catalogue, Entry, Skipped, in_order
from ddim.data.decode import FOREIGN, SUFFIXES
from ddim.errors import UserError

NOT_THE_USERS = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
TEST_NAMES = ("test", "val", "valid", "validation")  # the first that is there


class _File(NamedTuple):
    """A candidate: its path as a whole and from the root, and what tells whether it has changed."""

    path: str
    name: str
    stamp: tuple[int, ...]


def scan(root: Path) -> Catalogue:
    """List the images of a folder and of all folders in it. No image is opened.

    The class of an image is the name of the first folder on the way to it; images that lie in the root itself
    are of a class named after the root. If the root holds the folders `train` and `test` (or `val`, `valid`,
    `validation`), those are the splits, and the classes are the folders in them; all else in the root is left
    aside. Hidden files, and those that operating systems leave behind, are passed over without a word.

    Args:
        root: the folder; links in it are followed, each folder is read once.

    Raises:
        UserError: no folder, one that cannot be read, or no file in it looks like an image.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}; give the path of a folder of images.")
    real = root.resolve()
    own = real.name or "images"
    try:
        parts = _parts(root)
    except OSError as error:
        raise UserError(f"Could not read {root}: {error.strerror or error}; allow reading it.") from error
    found: list[tuple[str, str | None, _File]] = []  # class, split
    skipped: list[Skipped] = []
    ignored: Counter[str] = Counter()
    for split, part in parts.items():
        for one in _walk(part, root, skipped, ignored):
            within = Path(one.path).relative_to(part).parts
            found.append((within[0] if len(within) > 1 else own, split, one))
    if not found and not skipped:
        others = f"only {sum(ignored.values()):,} other files" if ignored else "nothing"
        raise UserError(
            f"{root} holds {others}, no image; name a folder with PNG, JPEG, WebP, BMP, TIFF or GIF files."
        )
    found.sort(key=lambda item: item[2].name)
    classes = in_order(name for name, _, _ in found)
    index = {name: label for label, name in enumerate(classes)}
    state = hashlib.sha256()
    for _, _, one in found:
        state.update(f"{one.name!a} {one.stamp}\n".encode())
    for left_out in sorted(skipped):
        state.update(f"{left_out!a}\n".encode())
    return Catalogue(
        name=own,
        classes=tuple(classes),
        entries=[Entry(one.name, index[name], split, partial(_open, one.path)) for name, split, one in found],
        identity=f"folder {str(real)!a}",
        state=state.hexdigest(),
        skipped=tuple(sorted(skipped)),
        ignored=ignored,
    )


def _open(path: str) -> BufferedReader:
    return Path(path).open("rb")


def _parts(root: Path) -> dict[str | None, Path]:
    """Split -> folder; the one key None where the root says nothing of splits."""
    with os.scandir(root) as items:
        folders = {item.name.lower(): Path(item.path) for item in items if _is_folder(item)}
    test = next((folders[name] for name in TEST_NAMES if name in folders), None)
    if "train" in folders and test is not None:
        return {"train": folders["train"], "test": test}
    return {None: root}


def _walk(part: Path, root: Path, skipped: list[Skipped], ignored: Counter[str]) -> Iterator[_File]:
    """Every candidate under `part`; what is left out goes into the two lists."""
    seen: set[tuple[int, int]] = set()  # each real folder once: links may lead in circles
    folders = [str(part)]
    while folders:
        folder = folders.pop()
        try:
            about = Path(folder).stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as listing:
                items = sorted(listing, key=lambda item: (item.is_symlink(), item.name), reverse=True)
            if {"config.json", "metrics.jsonl"} <= {item.name for item in items}:
                continue  # a run, whose samples are not to be learnt from
        except OSError as error:
            skipped.append(Skipped(os.path.relpath(folder, root), f"cannot be read: {error.strerror or error}"))
            continue
        for item in items:  # in reverse: the stack gives folders back in order, real ones before links
            if item.name.startswith(".") or item.name.lower() in NOT_THE_USERS:
                continue
            if _is_folder(item):
                folders.append(item.path)
                continue
            suffix = Path(item.name).suffix.lower()
            if suffix not in SUFFIXES | FOREIGN:
                ignored[suffix] += 1
                continue
            name = Path(item.path).relative_to(root).as_posix()
            stamp, reason = _stamp(item, suffix)
            if reason:
                skipped.append(Skipped(name, reason))
            else:
                yield _File(item.path, name, stamp)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def _stamp(item: os.DirEntry[str], suffix: str) -> tuple[tuple[int, ...], str]:
    """Size, time of the last change and permissions; or why the file is left out."""
    try:
        about = item.stat()
    except OSError as error:
        words = "is a link to nothing" if item.is_symlink() else f"cannot be opened: {error.strerror or error}"
        return (), words
    if not stat.S_ISREG(about.st_mode):
        return (), "is no regular file"  # opening a pipe would wait for ever
    if suffix in FOREIGN:
        return (), f"is {suffix[1:].upper()}, which is not read; convert it to PNG or JPEG"
    if not about.st_size:
        return (), "is empty"
    return (about.st_size, about.st_mtime_ns, about.st_mode), ""
