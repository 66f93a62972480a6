"""Images to learn from, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ddim.data import cifar, digits, mnist
from ddim.data.images import Images, to_uint8
from ddim.errors import UserError
from ddim.registry import Registry

__all__ = ["Images", "names", "open_images", "to_uint8"]

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
    """Open a data set, downloading it if it is nowhere on this machine.

    Files are looked for in `data_dir`; without it in the folder that $DDIM_DATA names, then in the cache
    ($DDIM_CACHE, else ~/.cache/ddim), and then downloaded into the cache.

    Args:
        name_or_path: "digits", "mnist", "cifar10" or "airplanes", the class of that name in CIFAR-10.
        classes: keep these classes alone, e.g. "cat,dog" or [3, 8], relabelled from 0 in this order.
        size: resize the images to size x size pixels.
        split: "train" or "test".
        data_dir: the folder with the files. If they are not there that is an error: nothing is downloaded.
        url: where a download comes from instead of the known mirrors; its checksum must be the same.

    Returns:
        A dataset of (image, (C, H, W) float32 in [-1, 1]; label, int).

    Raises:
        UserError: no such data set, split, class or size; or the files are missing, damaged or not the
            official ones.
    """
    name = str(name_or_path)
    if name not in _sets and ("/" in name or Path(name).exists()):
        raise UserError(f"{name}: folders of images are not read yet; choose one of {', '.join(names())}.")
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; choose train or test.")
    images = _sets[name](split, data_dir, url)
    if classes is not None:
        images = images.select(classes)
    if size is not None:
        images = images.resized(size)
    return images
