"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes.

The files are read by our own code by choice: nothing in them is ever unpickled, executed or unpacked to the disk.
"""

import gzip
import tarfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch

from ddim.data import unpickle
from ddim.data.augmentations import PHOTOGRAPHS
from ddim.data.download import CHUNK, REMEDY, cache_folder, fetch, locate
from ddim.data.images import Images, register
from ddim.data.unpickle import Call
from ddim.errors import UserError
from ddim.files import unreadable
from ddim.text import printable

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MAX_MEMBER = 1 << 26  # bytes of a batch, in an archive or not: twice the largest official file
MAX_ARCHIVE = 1 << 29  # bytes of an archive, unpacked: three times the official one
MAX_HEADERS = 1 << 20  # bytes of all headers of an archive; those of ten members have some 5,000

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class Batch(NamedTuple):
    """The content of one file: images (N, 3, 32, 32) and labels (N,), both uint8."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def read_python(data: bytes, source: str) -> Batch:
    """Return a batch of the "python version": a pickled dict of an (N, 3072) array and a list of labels.

    The pickle is never executed, see `ddim.data.unpickle`: the array is rebuilt from its bytes.
    Reference: Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

    Args:
        data: the content of the file, as Python 2 wrote it or as Python 3 rewrote it in protocol 2 to 4.
        source: the file's name, for the error message.

    Raises:
        UserError: the file is damaged, calls a function, or holds anything but such a batch.
    """
    match unpickle.read(data, source):
        case {
            # the state of a numpy array: version, shape, dtype, whether in Fortran's order, bytes
            "data": Call(state=(1, (int(rows), 3072), Call(args=("u1" | b"u1", *_)), False, bytes(pixels))),
            "labels": list(labels),
        } if len(pixels) == rows * PIXELS:
            pass
        case _:
            raise UserError(
                f"{source} does not hold rows of {PIXELS} unsigned bytes and a list of labels; "
                "replace it by the official file."
            )
    if len(labels) != rows:
        raise UserError(f"{source} holds {rows} images but {len(labels)} labels; replace it.")
    if not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise UserError(f"{source} holds labels that are not whole numbers from 0 to 9; replace it.")
    return Batch(np.frombuffer(pixels, np.uint8).reshape(-1, *SHAPE), np.array(labels, np.uint8))


def read_binary(data: bytes, source: str) -> Batch:
    """Return a batch of the "binary version": for each image one byte of label, then 3072 of pixels."""
    if len(data) % (1 + PIXELS):
        raise UserError(f"{source} holds {len(data)} bytes, not a multiple of {1 + PIXELS}; {REMEDY}.")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    labels = records[:, 0]
    if (labels >= len(CLASSES)).any():
        raise UserError(f"{source} holds labels that are not from 0 to 9; replace it by the official file.")
    return Batch(records[:, 1:].reshape(-1, *SHAPE), labels)


class Layout(NamedTuple):
    """One of the two file formats in which the authors publish the same images."""

    folder: str
    archive: str
    sha256: str
    size: int  # bytes of the archive
    suffix: str
    read: Callable[[bytes, str], Batch]

    def files(self, split: str) -> list[str]:
        """Return the file names of a split, in order."""
        return [name + self.suffix for name in BATCHES[split]]


PYTHON = Layout(
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    170_498_071,
    "",
    read_python,
)
BINARY = Layout(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
    ".bin",
    read_binary,
)
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://cave.cs.toronto.edu/kriz/cifar-10-python.tar.gz",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
)


@register("cifar10")
def load(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """Return the 50,000 training images or the 10,000 test images; other files may hold fewer.

    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. Arguments and errors: as
    `open_images`. The folder holds the batches, or an archive of them, in the python or the binary layout; `url` is
    the address of one of the two archives.
    """
    wanted = (
        f"{' or '.join(BATCHES[split])} (or with .bin) there, in {PYTHON.folder} or in {BINARY.folder}, "
        f"{PYTHON.archive} or {BINARY.archive}"
    )
    batches = locate(lambda folder: _find(folder, split), wanted, data_dir) or _download(split, url)
    pixels, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*batches, strict=True))
    if not len(pixels):
        raise UserError(f"The {split} files of cifar10 hold no image; replace them by the official files.")
    return Images(pixels, labels.long(), CLASSES, "cifar10", split, mirror=True, augmentations=PHOTOGRAPHS)


@register("airplanes")
def load_airplanes(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """Return the airplanes of CIFAR-10: 5,000 training or 1,000 test images."""
    return replace(load(split, data_dir, url).select(CLASSES[:1]), name="airplanes")


def _find(folder: Path, split: str) -> list[Batch] | None:
    """Return the batches of the split in the first layout and folder that has any."""
    for layout in (PYTHON, BINARY):
        for subfolder in (folder, folder / layout.folder):
            paths = [path for name in layout.files(split) if (path := subfolder / name).is_file()]
            if paths:
                return [layout.read(_read(path), str(path)) for path in paths]
    for layout in (PYTHON, BINARY):
        if (path := folder / layout.archive).is_file():
            return _unpack(path, layout, split)
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_MEMBER + 1)
    if len(data) > MAX_MEMBER:
        raise UserError(f"{path} has more than {MAX_MEMBER} bytes, more than any batch of images; {REMEDY}.")
    return data


def _download(split: str, url: str | None) -> list[Batch]:
    layout = BINARY if url and url.endswith(BINARY.archive) else PYTHON
    path = cache_folder() / "cifar10" / layout.archive
    return _unpack(fetch([url] if url else MIRRORS, path, layout.sha256, layout.size), layout, split)


def _unpack(path: Path, layout: Layout, split: str) -> list[Batch]:
    members = read_archive(path, layout.files(split))
    if not members:
        raise UserError(f"{path} holds none of {', '.join(layout.files(split))}; {REMEDY}.")
    return [layout.read(members[name], f"{path}:{name}") for name in sorted(members)]


class _Headers:
    """What `tarfile` may read of an archive: headers, forward, and not more than `MAX_HEADERS` bytes."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.left = stream, MAX_HEADERS
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"its headers have more than {MAX_HEADERS} bytes")
        return self.stream.read(size)

    def seek(self, offset: int) -> int:
        if not self.tell() <= offset <= MAX_ARCHIVE:
            raise ValueError(f"a member lies at byte {offset}, after byte {self.tell()} of at most {MAX_ARCHIVE}")
        return self.stream.seek(offset)


def read_archive(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Return name -> content of the `wanted` files in a gzipped tar archive; nothing is written to the disk.

    The names are without folders; names that the archive does not hold are left out. Sizes that the archive
    announces are compared with the limits of this module before anything of that size is read.

    Raises:
        UserError: the archive cannot be read, is damaged or too large, or a member points outside of it. That would
            be harmless here, but no official archive has such a member.
    """
    contents = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=cast("IO[bytes]", _Headers(stream)), mode="r:") as archive:
            for member in archive:
                if reason := _suspicion(member):
                    name = printable(member.name)[:100]
                    raise UserError(f"{path} was refused: its member {name!r} {reason}; replace it.")
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile():
                    contents[name] = stream.read(member.size)
                    if len(contents[name]) < member.size:
                        raise EOFError(f"it ends within {name}")
            while stream.read(CHUNK):  # gzip compares its checksum at the end
                if stream.tell() > MAX_ARCHIVE:
                    raise ValueError(f"it has more than {MAX_ARCHIVE} bytes")
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise unreadable(path, error, REMEDY) from error
    return contents


def _suspicion(member: tarfile.TarInfo) -> str | None:
    """Return the reason to refuse a member, or None."""
    if not (member.isfile() or member.isdir()) or member.issparse():
        return "is a link, a device or sparse"
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return "points outside of the archive"
    if not 0 <= member.size <= MAX_MEMBER:
        return f"has {member.size} bytes, more than any batch of images"
    return None
