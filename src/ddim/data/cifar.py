"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ddim.data import archive
from ddim.data.batches import Batch, read_binary, read_python
from ddim.data.download import cache_folder, fetch
from ddim.data.images import Images
from ddim.data.places import locate
from ddim.errors import UserError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class Layout(NamedTuple):
    """One of the two forms in which the authors publish the same images."""

    folder: str
    archive: str
    sha256: str
    suffix: str
    read: Callable[[bytes, str], Batch]

    def files(self, split: str) -> list[str]:
        """The file names of a split, in order."""
        return [name + self.suffix for name in BATCHES[split]]


PYTHON = Layout(
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "",
    read_python,
)
BINARY = Layout(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ".bin",
    read_binary,
)
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://cave.cs.toronto.edu/kriz/cifar-10-python.tar.gz",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
)


def load(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """50,000 training images or 10,000 to test on; files of your own may hold fewer.

    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        split: "train" or "test".
        data_dir: the folder of the batches or of an archive of them, in the python or the binary layout;
            None to look in $DDIM_DATA, then download.
        url: where a download comes from instead of the mirrors: the address of one of the two archives.

    Raises:
        UserError: the files are not there, damaged, or not what they should be, or no mirror gives them.
    """
    wanted = (
        f"{' or '.join(BATCHES[split])} (or with .bin) there, in {PYTHON.folder} or in {BINARY.folder}, "
        f"{PYTHON.archive} or {BINARY.archive}"
    )
    batches = locate(lambda folder: _find(folder, split), wanted, data_dir) or _download(split, url)
    pixels = np.concatenate([batch.pixels for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    if not len(pixels):
        raise UserError(f"The {split} files of cifar10 hold no image; replace them by the official files.")
    return Images(
        pixels=torch.from_numpy(pixels),
        labels=torch.from_numpy(labels).long(),
        classes=CLASSES,
        name="cifar10",
        split=split,
        mirror=True,
    )


def load_airplanes(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """The aeroplanes of CIFAR-10: 5,000 to train on, 1,000 to test on. Arguments and errors as `load`."""
    return replace(load(split, data_dir, url).select(CLASSES[:1]), name="airplanes")


def _find(folder: Path, split: str) -> list[Batch] | None:
    """Whatever batches of the split the folder has, the first layout and place that has any."""
    for layout in (PYTHON, BINARY):
        for place in (folder, folder / layout.folder):
            paths = [path for name in layout.files(split) if (path := place / name).is_file()]
            if paths:
                return [layout.read(path.read_bytes(), str(path)) for path in paths]
    for layout in (PYTHON, BINARY):
        if (path := folder / layout.archive).is_file():
            return _unpack(path, layout, split)
    return None


def _download(split: str, url: str | None) -> list[Batch]:
    layout = BINARY if url and url.endswith(BINARY.archive) else PYTHON
    path = cache_folder() / "cifar10" / layout.archive
    return _unpack(fetch([url] if url else MIRRORS, path, layout.sha256), layout, split)


def _unpack(path: Path, layout: Layout, split: str) -> list[Batch]:
    members = archive.read(path, layout.files(split))
    if not members:
        raise UserError(f"{path} holds none of {', '.join(layout.files(split))}; remove it and download it again.")
    return [layout.read(members[name], f"{path}:{name}") for name in sorted(members)]
