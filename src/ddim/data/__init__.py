"""Data sets: by a registered name, in a file or folder, on the Hugging Face hub, or as arrays and data sets in Python.

A new registered one needs one function.
"""

import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from ddim.data import arrays, build, folder, hub
from ddim.data.augmentations import PHOTOGRAPHS, SHAPE
from ddim.data.cache import Stored
from ddim.data.catalogue import Catalogue, contrast, summary
from ddim.data.crop import check_crop
from ddim.data.images import Images, check_images, checked_size, loaders, register
from ddim.data.items import open_items
from ddim.data.read import read_images
from ddim.errors import Notice, UserError
from ddim.files import user_path
from ddim.pictures import to_uint8
from ddim.text import counted, did_you_mean, printable

__all__ = ["Images", "catalogue", "names", "open_images", "read_images", "register", "to_uint8"]

SPLITS = ("train", "test")

for _module in pkgutil.iter_modules(__path__):  # each registers its data sets
    import_module(f"{__name__}.{_module.name}")


def names() -> tuple[str, ...]:
    """Return the names of the registered data sets."""
    return tuple(loaders)


def open_images(
    name_or_path: Any,
    *,
    classes: str | Sequence[str | int] | None = None,
    size: int | str | Sequence[int] | None = None,
    split: str = "train",
    data_dir: str | Path | None = None,
    url: str | None = None,
    crop: str = "centre",
    range: tuple[float, float] | None = None,
) -> Images:
    """Open a registered data set, files of images or arrays, a data set of the hub, or an object, as `Images`.

    The files of a registered set are looked for in `data_dir`; without it in the folder that $DDIM_DATA names,
    then in the cache ($DDIM_CACHE, else ~/.cache/ddim), and then downloaded into the cache.

    A folder (see `ddim.data.folder.scan`) is decoded once, into the cache, and its pixels are memory-mapped. Its
    sub-folders are the classes. Without folders `train` and `test`, one file in 20 is held out, by its content.
    Photographs may be mirrored, so `mirror` is True. A `Notice` counts the files that are left out, and names them
    when the folder is decoded; other notices concern images without contrast, and folders with the name of a split
    that were read as classes.

    Arrays are read without loss, see `ddim.data.arrays`: a .npy or .npz file, or a folder of .npy files or TIFF stacks.
    They are stored and split as a folder is. An object in Python is one split already, see `ddim.data.items`: all its
    images are used.

    Args:
        name_or_path: one of `names()`; the path of a folder or of an array file; a hub id, "user/name" or "hf:name",
            which needs `pip install "ddim[hub]"`; or a NumPy array, a tensor, a map-style data set of PyTorch, or a
            `DataLoader`.
        classes: keep only these classes, e.g. "cat,dog" or [3, 8], relabelled from 0 in this order. A class may have
            commas in its name.
        size: resize the images to this side, or to (height, width) or "32x48". By default, arrays and a folder of
            squares of one size up to 64 keep that size, and any other folder is resized to 32.
        split: "train" or "test".
        data_dir: the folder with the files of a registered set. If they are missing, that is an error: nothing
            is downloaded.
        url: where to download from instead of the known mirrors; the checksum must be the same.
        crop: which part of an image of another aspect is kept: "centre", "random" (a window at a place that depends on
            the image, the same in every epoch) or "fit" (all of it, with black bars).
        range: of arrays, the numbers that become -1 and 1, see `ddim.values.chosen_range`.

    Raises:
        UserError: the data set, folder, split, class or size does not exist; the files are missing, damaged or
            not the official ones; no image can be read; or arrays with NaN, of several shapes, or of equal numbers.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; choose train or test.")
    if size is not None:
        size = checked_size(size)
    check_crop(crop)
    if not isinstance(name_or_path, str | Path):
        if split != "train" or data_dir is not None or url is not None:
            raise UserError(
                f"A {type(name_or_path).__name__} is one split, all of whose images are used; leave out split, "
                "data_dir and url, and open the held-out images as another one."
            )
        images = open_items(name_or_path, range=range)
        images = images if classes is None else images.select(classes)
        return images if size is None else images.resized(size, crop)
    name = str(name_or_path)
    if name not in loaders:
        if data_dir is not None or url is not None:
            raise UserError(
                f"{name} is not one of {', '.join(names())}; leave out data_dir and url, which are for these sets."
            )
        return _decoded(catalogue(name, classes), name, size, split, crop, range)
    if range is not None:
        raise UserError(f"The images of {name} are pictures, whose grey levels are known; leave out the range.")
    images = loaders[name](split, data_dir, url)
    check_images(images)
    if classes is not None:
        images = images.select(classes)
    if size is not None:
        images = images.resized(size, crop)
    return images


def catalogue(name_or_path: str | Path, classes: str | Sequence[str | int] | None = None) -> Catalogue:
    """Return the catalogue of a folder, an array file or a data set of the hub, see `open_images`; nothing is decoded.

    Raises:
        UserError: the folder, file, data set or class does not exist.
    """
    name = str(name_or_path)
    path = user_path(name)
    if name.startswith(hub.PREFIX):
        files = hub.scan(name.removeprefix(hub.PREFIX))
    elif path.exists() or not hub.plausible(name):
        if "/" not in name and not path.exists():
            raise UserError(
                f"There is no data set called {name!r}{did_you_mean(name, names())}, nor a folder; choose one of "
                f'{", ".join(names())}, or give the path of a folder of images, or a hub id, "user/name".'
            )
        files = arrays.scan(path) if path.is_file() and path.suffix.lower() in arrays.FILES else folder.scan(path)
    else:
        files = hub.scan(name)
    return files if classes is None else files.select(classes)


def _decoded(
    files: Catalogue, name: str, size: Any, split: str, crop: str, range: tuple[float, float] | None
) -> Images:
    stored = build.stored(files, size, crop)
    if split == "train" or stored.fresh:  # once for both splits
        for notice in _notices(files, stored, name):
            warnings.warn(printable(notice), Notice, stacklevel=3)
    rows = slice(stored.train) if split == "train" else slice(stored.train, None)
    if not len(stored.labels[rows]):
        raise UserError(
            f"{name} holds no image for the split {split!r} that differs from those of the other split; add images."
        )
    conditions = None
    if files.vectors is not None:
        conditions = torch.from_numpy(files.vectors[arrays.places(fact.name for fact in stored.files())])[rows]
    return Images(
        stored.pixels[rows],
        stored.labels[rows],
        stored.classes,
        files.name,
        split,
        mirror=not files.arrays,
        augmentations=SHAPE if files.arrays else PHOTOGRAPHS,
        values=build.values_of(stored, name, range),
        conditions=conditions,
    )


def _notices(files: Catalogue, stored: Stored, name: str) -> Iterator[str]:
    """Yield what a user should know about a folder; the files that are left out are named when they are decoded."""
    if files.warning:
        yield files.warning
    if not files.arrays and (poor := contrast(stored.levels)):
        yield f"{name}: {poor}"
    if skipped := stored.skipped:
        share = f"{len(skipped):,} of {counted(len(skipped) + len(stored.labels), 'file')}"
        named = f": {summary(skipped, 5)}. See them all:" if stored.fresh else "; see"
        verb, command = "is" if len(skipped) == 1 else "are", f"ddim inspect {quote(name)} --all"
        yield f"{share} in {name} {verb} left out{named} {command}"
