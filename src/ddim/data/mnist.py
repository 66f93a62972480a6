"""MNIST: 70,000 handwritten digits of 28 x 28 pixels."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ddim.data.download import cache_folder, fetch, locate
from ddim.data.images import Images, register
from ddim.errors import UserError

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
REMEDY = "remove it and download it again"


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
    digits = tuple("0123456789")
    return Images(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(classes).long(), digits, "mnist", split)


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
    return fetch(urls, cache_folder() / "mnist" / f"{name}.gz", SHA256[name])


def read_idx(path: Path, dims: int) -> npt.NDArray[np.uint8]:
    """Return the array in an IDX file of unsigned bytes, gzipped or not.

    Reference: http://yann.lecun.com/exdb/mnist/, "the IDX file format".

    Args:
        path: the file; gzip is recognised by the content, not by the name.
        dims: the number of dimensions: 3 for images, 1 for labels.

    Raises:
        UserError: the file cannot be read, is damaged, truncated, too long, empty, or of another format.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Could not read {path}: {error}; {REMEDY}.") from error

    magic = bytes((0, 0, 8, dims))  # 8: unsigned bytes
    start = 4 + 4 * dims
    if not data.startswith(magic) or len(data) < start:
        raise UserError(
            f"{path} does not start as an IDX file of unsigned bytes in {dims} dimension(s) does, with "
            f"{magic.hex()} and {dims} size(s); {REMEDY}."
        )
    shape = np.frombuffer(data, ">u4", count=dims, offset=4).tolist()
    expected, actual = math.prod(shape), len(data) - start
    if expected != actual:
        raise UserError(f"{path} should hold {expected} bytes, for {shape}, but holds {actual}; {REMEDY}.")
    if expected == 0:
        raise UserError(f"{path} holds no data; {REMEDY}.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()  # PyTorch needs writable memory
