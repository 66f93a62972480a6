"""Images to learn from: by name, in a folder, or on the Hugging Face hub."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ddim.data import build, cifar, digits, folder, hub, mnist
from ddim.data.catalogue import Catalogue, listed
from ddim.data.images import Images, to_uint8
from ddim.errors import Notice, UserError
from ddim.registry import Registry

__all__ = ["Images", "catalogue", "names", "open_images", "to_uint8"]

SPLITS = ("train", "test")

Loader = Callable[[str, str | Path | None, str | None], Images]
"""(split, data_dir, url) -> the images, as in `open_images`."""

_sets: Registry[Loader] = Registry("data set")
_sets["digits"] = digits.load
_sets["mnist"] = mnist.load
_sets["cifar10"] = cifar.load
_sets["airplanes"] = cifar.load_airplanes


def names() -> tuple[str, ...]:
    """The names that `open_images` knows."""
    return tuple(_sets)


def open_images(
    name_or_path: str | Path,
    *,
    classes: str | Sequence[str | int] | None = None,
    size: int | None = None,
    split: str = "train",
    data_dir: str | Path | None = None,
    url: str | None = None,
) -> Images:
    """Open a data set that ddim knows by name, a folder of images, or a data set of the Hugging Face hub.

    The files of a known set are looked for in `data_dir`; without it in the folder that $DDIM_DATA names, then in
    the cache ($DDIM_CACHE, else ~/.cache/ddim), and then downloaded into the cache.

    A folder, see `ddim.data.folder.scan`, is decoded once, into the cache; the pixels are a map of that file, not
    a copy in memory. The classes are its sub-folders. Without folders `train` and `test`, one file in 20 is held
    out, chosen by content. Files that cannot be read are left out, and a `Notice` names them. Photographs may be
    mirrored, so `mirror` is true.

    Args:
        name_or_path: "digits", "mnist", "cifar10", "airplanes" (the class of that name in CIFAR-10); the path of
            a folder; or a hub id, "user/name" or "hf:name", which needs `pip install "ddim[hub]"`.
        classes: keep these classes alone, e.g. "cat,dog" or [3, 8], relabelled from 0 in this order.
        size: resize the images to size x size pixels. A folder of small squares, all of one size up to 64, keeps
            that size without it, and any other folder is brought to 32.
        split: "train" or "test".
        data_dir: the folder with the files of a known set. If they are not there that is an error: nothing is
            downloaded.
        url: where a download comes from instead of the known mirrors; its checksum must be the same.

    Returns:
        A dataset of (image, (C, H, W) float32 in [-1, 1]; label, int).

    Raises:
        UserError: no such data set, folder, split, class or size; the files are missing, damaged or not the
            official ones; or no image can be read.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; choose train or test.")
    name = str(name_or_path)
    if name not in _sets:
        if data_dir is not None or url is not None:
            raise UserError(
                f"{name} is not one of {', '.join(names())}; leave out data_dir and url, which are theirs."
            )
        return _decoded(catalogue(name, classes), name, size, split)
    images = _sets[name](split, data_dir, url)
    if classes is not None:
        images = images.select(classes)
    if size is not None:
        images = images.resized(size)
    return images


def catalogue(name_or_path: str | Path, classes: str | Sequence[str | int] | None = None) -> Catalogue:
    """What lies in a folder or in a data set of the hub, before anything is decoded.

    Args:
        name_or_path: the path or the hub id.
        classes: as in `open_images`.

    Raises:
        UserError: there is nothing of that name, or no such class.
    """
    name = str(name_or_path)
    path = Path(name).expanduser()
    if name.startswith(hub.PREFIX):
        found = hub.scan(name.removeprefix(hub.PREFIX))
    elif path.exists() or not hub.plausible(name):
        if "/" not in name and not path.exists():
            raise UserError(
                f"There is no data set called {name!r}, nor a folder; choose one of {', '.join(names())}, or give "
                'the path of a folder of images, or a hub id, "user/name".'
            )
        found = folder.scan(path)
    else:
        found = hub.scan(name)
    return found if classes is None else found.pick(classes)


def _decoded(listing: Catalogue, name: str, size: int | None, split: str) -> Images:
    found = build.stored(listing, size)
    if left_out := found.about.skipped:
        files = f"{len(left_out):,} of {len(left_out) + len(found.labels):,} files"
        warnings.warn(
            f"{files} in {name} are left out: {listed(left_out, 5)}. See them all: ddim inspect {name} --all",
            Notice,
            stacklevel=3,
        )
    train = found.about.train
    rows = slice(0, train) if split == "train" else slice(train, None)
    if not len(found.labels[rows]):
        raise UserError(
            f"{name} holds no image for the split {split!r} that differs from those of the other; add images."
        )
    return Images(
        pixels=found.pixels[rows],
        labels=found.labels[rows],
        classes=found.about.classes,
        name=listing.name,
        split=split,
        mirror=True,
    )
