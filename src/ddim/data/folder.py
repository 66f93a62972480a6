"""A folder of images: its files, classes and splits."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from ddim.data.catalogue import Catalogue, Entry, Skipped, sorted_classes
from ddim.data.decode import FOREIGN, SUFFIXES
from ddim.errors import UserError

SYSTEM_FILES = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
TEST_NAMES = ("test", "val", "valid", "validation")  # the first that exists is used


class _File(NamedTuple):
    path: str
    name: str  # path from the root
    stamp: tuple[int, ...]  # differs once the file has changed


def scan(root: Path) -> Catalogue:
    """List the images of a folder and of all folders in it. No image is opened.

    The class of an image is the name of the first folder on its path; images in the root itself are of a class
    named after the root. If the root holds the folders `train` and `test` (or `val`, `valid`, `validation`), those
    are the splits, the classes are the folders in them, and all else in the root is ignored. Hidden files and
    files of the operating system are ignored silently.

    Args:
        root: the folder; links in it are followed, and each folder is read once.

    Raises:
        UserError: the folder is missing or cannot be read, or no file in it looks like an image.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}; give the path of a folder of images.")
    real = root.resolve()
    set_name = real.name or "images"
    try:
        parts = _parts(root)
    except OSError as error:
        raise UserError(f"Could not read {root}: {error.strerror or error}; allow reading it.") from error
    images: list[tuple[str, str | None, _File]] = []  # class, split, file
    skipped: list[Skipped] = []
    ignored: Counter[str] = Counter()
    for split, part in parts.items():
        for file in _files(part, root, skipped, ignored):
            within = Path(file.path).relative_to(part).parts
            images.append((within[0] if len(within) > 1 else set_name, split, file))
    if not images and not skipped:
        others = f"only {sum(ignored.values()):,} other files" if ignored else "nothing"
        raise UserError(f"{root} holds {others}, no image; name a folder with PNG, JPEG, WebP, BMP, TIFF or GIF files.")
    images.sort(key=lambda image: image[2].name)
    skipped.sort()
    classes = sorted_classes(class_name for class_name, _, _ in images)
    state = hashlib.sha256()
    for _, _, file in images:
        state.update(f"{file.name!a} {file.stamp}\n".encode())
    for left_out in skipped:
        state.update(f"{left_out!a}\n".encode())
    index = {class_name: label for label, class_name in enumerate(classes)}
    return Catalogue(
        name=set_name,
        classes=tuple(classes),
        entries=[Entry(file.name, index[name], split, partial(_open, file.path)) for name, split, file in images],
        identity=f"folder {str(real)!a}",
        state=state.hexdigest(),
        skipped=tuple(skipped),
        ignored=ignored,
    )


def _open(path: str) -> BufferedReader:
    return Path(path).open("rb")


def _parts(root: Path) -> dict[str | None, Path]:
    """Return split -> folder; only the key None if the root has no folders of splits."""
    with os.scandir(root) as items:
        folders = {item.name.lower(): Path(item.path) for item in items if _is_folder(item)}
    test = next((folders[name] for name in TEST_NAMES if name in folders), None)
    if "train" in folders and test is not None:
        return {"train": folders["train"], "test": test}
    return {None: root}


def _files(part: Path, root: Path, skipped: list[Skipped], ignored: Counter[str]) -> Iterator[_File]:
    """Yield every image file under `part`; add all other files to `skipped` or `ignored`."""
    seen: set[tuple[int, int]] = set()  # each real folder once: links may lead in circles
    folders = [str(part)]
    while folders:
        folder = folders.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                items = sorted(listing, key=lambda item: (item.is_symlink(), item.name), reverse=True)
            if {"config.json", "metrics.jsonl"} <= {item.name for item in items}:
                continue  # a run folder, whose samples are not training images
        except OSError as error:
            skipped.append(Skipped(os.path.relpath(folder, root), f"cannot be read: {error.strerror or error}"))
            continue
        for item in items:  # in reverse: the stack returns folders in order, real ones before links
            if item.name.startswith(".") or item.name.lower() in SYSTEM_FILES:
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
    """Return size, time of the last change and permissions; or the reason to leave the file out."""
    try:
        status = item.stat()
    except OSError as error:
        reason = "is a link to nothing" if item.is_symlink() else f"cannot be opened: {error.strerror or error}"
        return (), reason
    if not stat.S_ISREG(status.st_mode):
        return (), "is no regular file"  # opening a pipe would wait for ever
    if suffix in FOREIGN:
        return (), f"is {suffix[1:].upper()}, which is not read; convert it to PNG or JPEG"
    if not status.st_size:
        return (), "is empty"
    return (status.st_size, status.st_mtime_ns, status.st_mode), ""
