"""Arrays as images, without loss: a .npy or .npz file, or a folder of .npy files or of TIFF stacks.

An image is an array (C, H, W), (H, W, C) with 1, 3 or 4 channels, or (H, W), of one of the types in `ddim.values`. The
pages of a TIFF stack are its channels. Nothing is unpickled.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from functools import cache, partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ddim.data.catalogue import Catalogue, Entry, sorted_classes
from ddim.data.crop import bring
from ddim.data.decode import Picture, Unreadable
from ddim.errors import UserError
from ddim.files import unreadable
from ddim.text import did_you_mean, listed, one_line
from ddim.values import DTYPES, channels_first, layout_of

SUFFIX = ".npy"  # of the arrays in a folder
FILES = (".npy", ".npz")
TIFF = frozenset({".tif", ".tiff"})
IMAGES, LABELS = ("images", "arr_0"), ("labels", "arr_1")  # names of the members of a .npz file
CLASSES, CONDITIONS = "classes", "conditions"
_HEADER = Lock()  # in Python 3.11, threads that parse literals at once disturb each other (cpython issue 106905)
LOOKED_AT = 20  # files of a folder of TIFFs, to tell stacks from pictures


def scan(path: Path) -> Catalogue:
    """List the images of a .npy file, or of a .npz file: the rows of its array.

    In a .npz file the images are the array `images` or `arr_0`, or the only array of three or four axes; `labels` or
    `arr_1` are integers, one for each image, `classes` the names of the classes, and `conditions` a vector for each
    image.

    Raises:
        UserError: the file cannot be read, or its arrays are no images with labels.
    """
    images, labels, names, vectors = _members(path)
    if images.ndim not in (3, 4) or not len(images):
        raise UserError(
            f"The array in {path} has the shape {images.shape}; images are an array (N, C, H, W), (N, H, W, C) with 1, "
            "3 or 4 channels, or (N, H, W), with at least one image."
        )
    layout_of(images.shape[1:], f"An image in {path}")
    if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(images) or vectors.dtype.kind not in "iuf"):
        raise UserError(
            f"The conditions in {path} must be {len(images):,} vectors of numbers, one for each image; got "
            f"{vectors.dtype} of shape {vectors.shape}."
        )
    check_dtype(images.dtype, f"The array in {path}")
    status = path.stat()
    classes, labels = _classes(path, labels, len(images), names)
    return Catalogue(
        name=path.stem,
        classes=classes,
        entries=[Entry(f"{path.name}[{i}]", label, None, partial(_row, images, i)) for i, label in enumerate(labels)],
        identity=f"arrays {str(path.resolve())!a}",
        state=f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}",
        vectors=vectors,
        arrays=True,
    )


def decode(
    file: BinaryIO, name: str, size: tuple[int, int] | None = None, crop: str = "centre", key: str = ""
) -> Picture:
    """Return an image (C, H, W) in the type of its array, at another size if one is given.

    Args:
        file, name: the bytes of a .npy file or of a TIFF, and its name.
        size, crop, key: see `ddim.data.crop.bring`. The numbers stay between the extremes of the array.

    Raises:
        Unreadable: the file is broken.
        UserError: numbers that are NaN or infinite, or an array that is no image.
    """
    if Path(name).suffix.lower() in TIFF:
        array, kind = _stack(file), "TIFF"
    else:
        array, kind = _npy(file), "NPY"
    layout = layout_of(array.shape, name)
    check_dtype(array.dtype, name)
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds numbers that are NaN or infinite; correct them, or leave out that image.")
    pixels = np.ascontiguousarray(channels_first(array, layout).astype(array.dtype.newbyteorder("=")))
    height, width = pixels.shape[1:]
    if size is not None and size != (height, width):
        least, greatest = float(pixels.min()), float(pixels.max())
        resized = bring(torch.from_numpy(pixels)[None], size, crop, key, least)[0].clamp(least, greatest)
        resized = resized if array.dtype.kind == "f" else resized.round()
        pixels = resized.numpy().astype(pixels.dtype)
    return Picture(pixels, width, height, layout, f"{kind} {pixels.dtype}")


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise `UserError` for numbers of a type that is not read without loss."""
    if dtype.name not in DTYPES:
        raise UserError(
            f"{name} holds numbers of the type {dtype.name}, and these are read: {', '.join(DTYPES)}; convert it by "
            "array.astype."
        )


def are_stacks(paths: Iterable[str]) -> bool:
    """Return whether the files of a folder, .npy or TIFF, are arrays: the first of them that can be read decides.

    A TIFF is an array if it has several pages in grey, over 8 bits, or a number of channels that no picture has.
    """
    found = False
    for path in islice(paths, LOOKED_AT):
        if Path(path).suffix.lower() == SUFFIX:
            return True
        try:
            with Image.open(path, formats=("TIFF",)) as image:
                grey = image.mode == "L" or image.mode[0] in "IF"
                return image.mode[0] in "IF" or (grey and getattr(image, "n_frames", 1) > 1)
        except Exception:  # Pillow reads no other numbers of channels, nor broken files
            found = found or _is_tiff(path)
    return found


def _is_tiff(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False


def _npy(file: BinaryIO) -> npt.NDArray[Any]:
    try:
        with _HEADER:
            version = np.lib.format.read_magic(file)
            headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = headers[version](file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        data = file.read(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # truncated, pickled, or no array
        raise Unreadable(f"cannot be read as an array: {one_line(error, 120)}") from error


def _stack(file: BinaryIO) -> npt.NDArray[Any]:
    tifffile = _tifffile()
    try:
        return np.asarray(tifffile.imread(file))
    except Exception as error:
        raise Unreadable(f"cannot be read as a TIFF: {one_line(error, 120)}") from error


@cache
def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise UserError(
            'TIFF stacks are read by one more library; pip install "ddim[tiff]", or save the arrays as .npy files.'
        ) from error
    return tifffile


def _members(path: Path) -> tuple[npt.NDArray[Any], Any, Any, Any]:
    """Return the images of a file, and of a .npz file its labels, the names of its classes and conditions, or None."""
    try:
        if path.suffix.lower() == SUFFIX:
            return np.load(path, mmap_mode="r", allow_pickle=False), None, None, None
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is no archive of arrays")
            names = file.files
            image = next((name for name in IMAGES if name in names), None)
            if image is None:
                image = _only(file, path)
            label = next((name for name in LABELS if name in names), None)
            known = [file[name] if name in names else None for name in (label, CLASSES, CONDITIONS)]
            return file[image], known[0], known[1], known[2]
    except OSError as error:
        raise unreadable(path, error, "copy it again") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError, NotImplementedError) as error:
        raise UserError(
            f"{path} is not a file of arrays that NumPy reads ({one_line(error, 120)}); save it by numpy.save or "
            "numpy.savez, without objects."
        ) from error


def _only(file: Any, path: Path) -> str:
    """Return the name of the only array that has the axes of images."""
    found = [name for name in file.files if file[name].ndim in (3, 4)]
    if len(found) != 1:
        guess = "".join(did_you_mean(name, IMAGES) for name in file.files[:1])
        raise UserError(
            f"{path} holds {listed(file.files, 10) or 'nothing'}, and the images are looked for as "
            f"{' or '.join(IMAGES)}{guess}; name them so: numpy.savez(path, images=..., labels=...)."
        )
    return str(found[0])


def places(names: Iterable[str]) -> list[int]:
    """Return the row of each image of an array file, by the names that `scan` gives."""
    return [int(name.rpartition("[")[2].rstrip("]")) for name in names]


def _classes(path: Path, labels: Any, count: int, names: Any) -> tuple[tuple[str, ...], Sequence[int]]:
    """Return the names of the classes that occur, and the label of each image."""
    if labels is None:
        return (path.stem,), [0] * count
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"The labels in {path} must be {count:,} integers, one for each image; got {labels.dtype} of shape "
            f"{labels.shape}."
        )
    numbers = labels.tolist()
    if names is None:
        known = sorted_classes(str(number) for number in numbers)
        index = {name: i for i, name in enumerate(known)}
        return tuple(known), [index[str(number)] for number in numbers]
    known = [str(name) for name in np.asarray(names).ravel()]
    if min(numbers) < 0 or max(numbers) >= len(known):
        raise UserError(
            f"The labels in {path} are indices into its {len(known)} classes; got labels from {min(numbers)} to "
            f"{max(numbers)}."
        )
    return tuple(known), numbers


def _row(images: npt.NDArray[Any], i: int) -> BytesIO:
    """Return an image as the bytes of a .npy file, which is how the files of a folder are read."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(images[i]), allow_pickle=False)
    file.seek(0)
    return file
