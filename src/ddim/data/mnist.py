"""MNIST: 70,000 handwritten digits of 28 x 28 pixels."""

from pathlib import Path

import torch

from ddim.data import idx
from ddim.data.download import cache_folder, fetch
from ddim.data.images import Images
from ddim.data.places import locate
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


def load(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """60,000 training images or 10,000 to test on; files of your own may hold fewer.

    Reference: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/.

    Args:
        split: "train" or "test".
        data_dir: the folder of the IDX files, gzipped or not; None to look in $DDIM_DATA, then download.
        url: where a download comes from instead of the mirrors; the file names are appended.

    Raises:
        UserError: the files are not there, damaged or at odds, or no mirror gives them.
    """
    wanted = " and ".join(FILES[split])
    found = locate(
        lambda folder: _find(folder, split), f"{wanted} (.gz or not, also in MNIST/raw or mnist)", data_dir
    )
    images, labels = found or _download(split, (url,) if url else MIRRORS)
    pixels, classes = idx.read(images, dims=3), idx.read(labels, dims=1)
    if len(pixels) != len(classes):
        raise UserError(
            f"{images} holds {len(pixels)} images but {labels} holds {len(classes)} labels; "
            "take both files from one place."
        )
    if classes.max() > 9:
        raise UserError(f"{labels} holds the label {classes.max()}, but MNIST's go from 0 to 9; replace it.")
    return Images(
        pixels=torch.from_numpy(pixels).unsqueeze(1),
        labels=torch.from_numpy(classes).long(),
        classes=tuple("0123456789"),
        name="mnist",
        split=split,
    )


def _find(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The images and the labels, if one of the folders has both."""
    for place in FOLDERS:
        images, labels = (_spelled(folder / place, name) for name in FILES[split])
        if images and labels:
            return images, labels
    return None


def _spelled(folder: Path, name: str) -> Path | None:
    """The file under the first of its usual spellings; the last is what some unpackers write."""
    spellings = (f"{name}.gz", name, name.replace("-idx", ".idx"))
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def _download(split: str, bases: tuple[str, ...]) -> tuple[Path, Path]:
    images, labels = (
        fetch(
            [f"{base.rstrip('/')}/{name}.gz" for base in bases],
            cache_folder() / "mnist" / f"{name}.gz",
            SHA256[name],
        )
        for name in FILES[split]
    )
    return images, labels
