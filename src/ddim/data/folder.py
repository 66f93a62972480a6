"""A folder of images or of arrays: its files, classes and splits."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ddim.data import arrays
from ddim.data.catalogue import Catalogue, Entry, Skipped, sorted_classes
from ddim.data.decode import FOREIGN, SUFFIXES, is_sheet
from ddim.errors import UserError
from ddim.text import counted, listed

SYSTEM_FILES = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
RUN_FILES = {"config.json", "metrics.jsonl"}
READ = SUFFIXES | {arrays.SUFFIX}
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation", "testing", "dev", "eval", "evaluation")


class _File(NamedTuple):
    path: str
    name: str  # path from the root
    stamp: tuple[int, ...]  # differs once the file has changed


def scan(root: Path) -> Catalogue:
    """List the images of a folder and of all folders in it. No image is decoded.

    The class of an image is the name of the first folder on its path; images in the root itself are of a class
    named after the root. If the root holds one of the folders `TRAIN_NAMES` and one of `TEST_NAMES`, the first that
    exist are the splits, the classes are the folders in them, and all else in the root is not used. A folder of
    `TRAIN_NAMES` without other folders of images is the root of the classes. Hidden files and files of the operating
    system are ignored silently. A folder without pictures whose files are .npy, or TIFFs that an 8-bit picture cannot
    hold, is one of arrays.

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
        parts, splits = _parts(root)
    except OSError as error:
        raise UserError(f"Could not read {root}: {error.strerror or error}; allow reading it.") from error
    images: list[tuple[str, str | None, _File]] = []  # class, split, file
    skipped: list[Skipped] = []
    ignored: Counter[str] = Counter()
    lookalikes: set[str] = set()
    for split, part in parts.items():
        for file in _files(part, root, skipped, ignored):
            within = Path(file.path).relative_to(part).parts
            images.append((within[0] if len(within) > 1 else set_name, split, file))
            lookalikes.update(name for name in within[:-1] if name.lower() in TRAIN_NAMES + TEST_NAMES)
    pictures = Counter(Path(file.name).suffix.lower() for _, _, file in images)
    held = pictures.pop(arrays.SUFFIX, 0)
    if held and pictures:  # arrays beside pictures are something else
        images = [image for image in images if Path(image[2].name).suffix.lower() != arrays.SUFFIX]
        ignored[arrays.SUFFIX] += held
    stacks = bool(images) and not set(pictures) - arrays.TIFF and arrays.are_stacks(file.path for _, _, file in images)
    if not images and not skipped:
        if {item.name for item in root.iterdir()} >= RUN_FILES:
            raise UserError(
                f"{root} holds a run of ddim, whose pictures are not data; name what the run was trained on, or a "
                "folder of images."
            )
        others = f"only {counted(sum(ignored.values()), 'other file')}" if ignored else "nothing"
        raise UserError(
            f"{root} holds {others}, no image; name a folder with PNG, JPEG, WebP, BMP, TIFF or GIF files, or with "
            ".npy arrays."
        )
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
        splits=splits,
        warning=_warning(set_name, sorted(lookalikes)),
        arrays=stacks,
    )


def _warning(name: str, folders: list[str]) -> str:
    if not folders:
        return ""
    return (
        f"{name} holds folders named {listed(folders)}, read as classes or parts of them, not as splits; for splits, "
        f"put train/ and test/ directly into {name}, with the classes in them."
    )


def _open(path: str) -> BufferedReader:
    return Path(path).open("rb")


def _parts(root: Path) -> tuple[dict[str | None, Path], str]:
    """Return split -> folder, the key None for images whose split is not given, and a sentence about the splits."""
    with os.scandir(root) as listing:
        items = sorted((item for item in listing if not _is_hidden(item)), key=lambda item: item.name)
    folders = {item.name.lower(): Path(item.path) for item in items if _is_folder(item)}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    if train is None:
        return {None: root}, ""
    used = [path for path in folders.values() if path != train and _holds_images(path, root)]
    test = next((folders[name] for name in TEST_NAMES if folders.get(name) in used), None)
    if test is None and used:
        return {None: root}, ""
    loose = [item.name for item in items if Path(item.name).suffix.lower() in READ and not _is_folder(item)]
    unused = [f"{path.name}/" for path in used if path != test] + loose
    sentence = f"{train.name}/ is for training, " + (
        f"{test.name}/ is held out" if test else "one file in 20 is held out"
    )
    if unused:
        sentence += f"; not used: {listed(unused)}"
    return ({"train": train, "test": test} if test else {None: train}), sentence


def _holds_images(folder: Path, root: Path) -> bool:
    """Return whether a folder holds a file that looks like an image, readable or not, and is no sheet of ddim's."""
    skipped: list[Skipped] = []
    return any(not _is_sheet(file.path) for file in _files(folder, root, skipped, Counter())) or bool(skipped)


def _is_sheet(path: str) -> bool:
    with suppress(Exception), Image.open(path, formats=("PNG",)) as image:
        return is_sheet(image)
    return False


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
            if {item.name for item in items} >= RUN_FILES:
                continue  # a run folder, whose samples are not training images
        except OSError as error:
            skipped.append(Skipped(os.path.relpath(folder, root), f"cannot be read: {error.strerror or error}"))
            continue
        for item in items:  # in reverse: the stack returns folders in order, real ones before links
            if _is_hidden(item):
                continue
            if _is_folder(item):
                folders.append(item.path)
                continue
            suffix = Path(item.name).suffix.lower()
            if suffix not in READ | FOREIGN:
                ignored[suffix] += 1
                continue
            name = Path(item.path).relative_to(root).as_posix()
            stamp, reason = _stamp(item, suffix)
            if reason:
                skipped.append(Skipped(name, reason))
            else:
                yield _File(item.path, name, stamp)


def _is_hidden(item: os.DirEntry[str]) -> bool:
    return item.name.startswith(".") or item.name.lower() in SYSTEM_FILES


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def _stamp(item: os.DirEntry[str], suffix: str) -> tuple[tuple[int, ...], str]:
    """Return size, times and permissions; or the reason to leave the file out.

    A tool may set the size and the time of the content (mtime) to those of the replaced file. No tool sets the time of
    the last change of any kind (ctime), so a copy, a new link or other permissions also change the stamp. An inode
    number would add nothing, and some network and overlay file systems assign new ones at each mount.
    """
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
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode), ""
