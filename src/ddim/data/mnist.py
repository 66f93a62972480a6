"""MNIST: 70,000 handwritten digits of 28 x 28 pixels."""

import gzip
import math
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from ddim.data.augmentations import HANDWRITING
from ddim.data.download import REMEDY, cache_folder, fetch, locate
from ddim.data.images import Images, register
from ddim.errors import UserError
from ddim.files import unreadable

FOLDERS = (".", "MNIST/raw", "mnist")  # below the data folder; the second is torchvision's
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
FILES = {  # split -> images, labels
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SHA256 = {  # of the gzipped files
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
SIZES = {  # bytes of the gzipped files
    "train-images-idx3-ubyte": 9_912_422,
    "train-labels-idx1-ubyte": 28_881,
    "t10k-images-idx3-ubyte": 1_648_877,
    "t10k-labels-idx1-ubyte": 4_542,
}
MAX_BYTES = 1 << 28  # of an array: five times MNIST's


@register("mnist")
def load(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """Return the 60,000 training images or the 10,000 test images; other files may hold fewer.

    Reference: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/. Arguments and errors: as `open_images`.
    The IDX files may be gzipped or not; their names are appended to `url`.
    """
    files = f"{' and '.join(FILES[split])} (.gz or not, also in MNIST/raw or mnist)"
    paths = locate(lambda folder: _find(folder, split), files, data_dir)
    images, labels = paths or [_download(name, (url,) if url else MIRRORS) for name in FILES[split]]
    pixels, classes = read_idx(images, dims=3), read_idx(labels, dims=1)
    if len(pixels) != len(classes):
        raise UserError(
            f"{images} holds {len(pixels)} images but {labels} holds {len(classes)} labels; "
            "take both files from the same source."
        )
    if classes.max() > 9:
        raise UserError(f"{labels} holds the label {classes.max()}, but MNIST's go from 0 to 9; replace it.")
    return Images(
        torch.from_numpy(pixels).unsqueeze(1),
        torch.from_numpy(classes).long(),
        tuple("0123456789"),
        "mnist",
        split,
        augmentations=HANDWRITING,
    )


def _find(folder: Path, split: str) -> list[Path] | None:
    """Return the paths of the images and the labels, if one of the folders has both."""
    for subfolder in FOLDERS:
        paths = []
        for name in FILES[split]:
            spellings = (f"{name}.gz", name, name.replace("-idx", ".idx"))  # the last is what some unpackers write
            files = (folder / subfolder / spelling for spelling in spellings)
            paths += [path for path in files if path.is_file()][:1]
        if len(paths) == 2:
            return paths
    return None


def _download(name: str, bases: tuple[str, ...]) -> Path:
    urls = [f"{base.rstrip('/')}/{name}.gz" for base in bases]
    return fetch(urls, cache_folder() / "mnist" / f"{name}.gz", SHA256[name], SIZES[name])


def read_idx(path: Path, dims: int) -> npt.NDArray[np.uint8]:
    """Return the array in an IDX file of unsigned bytes, gzipped or not.

    Reference: http://yann.lecun.com/exdb/mnist/, "the IDX file format".

    Args:
        path: the file; gzip is recognised by the content, not by the name.
        dims: the number of dimensions: 3 for images, 1 for labels.

    Raises:
        UserError: the file cannot be read, is damaged, truncated, too long, empty, larger than 256 MB, or of another
            format. Not more than its header announces is unpacked.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if packed else nullcontext(file) as stream:
                shape = _shape(stream, path, dims)
                expected = math.prod(shape)
                data = stream.read(expected + 1)  # at the end, gzip compares its checksum
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error, REMEDY) from error
    if len(data) != expected:
        actual = len(data) if len(data) < expected else "more"
        raise UserError(f"{path} should hold {expected} bytes, for {shape}, but holds {actual}; {REMEDY}.")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # PyTorch needs writable memory


def _shape(stream: BinaryIO | gzip.GzipFile, path: Path, dims: int) -> list[int]:
    """Read the header of an IDX file and return the shape of its array."""
    magic = bytes((0, 0, 8, dims))  # 8: unsigned bytes
    head = stream.read(4 + 4 * dims)
    if not head.startswith(magic) or len(head) < 4 + 4 * dims:
        raise UserError(
            f"{path} does not start as an IDX file of unsigned bytes in {dims} dimension(s) does, with "
            f"{magic.hex()} and {dims} size(s); {REMEDY}."
        )
    shape: list[int] = np.frombuffer(head, ">u4", offset=4).tolist()
    if not math.prod(shape):
        raise UserError(f"{path} holds no data, for {shape}; {REMEDY}.")
    if math.prod(shape) > MAX_BYTES:
        raise UserError(
            f"{path} should hold {math.prod(shape)} bytes, for {shape}, but {MAX_BYTES} are allowed; {REMEDY}."
        )
    return shape
