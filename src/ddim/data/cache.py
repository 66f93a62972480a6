"""Decoded images on the disk: one file, whole or absent, whose pixels are memory-mapped.

The file is in the safetensors format (https://github.com/huggingface/safetensors): `pixels` (N, C, H, W) uint8,
training images before test images, `labels` (N,) int64, and JSON as bytes in `about` and `files`. The code
here writes it block by block, which the safetensors package cannot.
"""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ddim.data.catalogue import Skipped
from ddim.files import writing

BLOCK = 1 << 20  # bytes of pixels per checksum, approximately
CHECKED = 64  # blocks verified at each opening; a truncated file has the wrong length


@dataclass(frozen=True)
class About:
    """What is stored besides the pixels, labels and files.

    Args:
        classes: the name of each class.
        train: the number of training images, which come first.
        skipped: (file, reason) of each file that was left out.
    """

    classes: tuple[str, ...]
    train: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Stored:
    """A cached copy: pixels (N, C, H, W) uint8, mapped; labels (N,) int64; and the byte range of `files`."""

    pixels: Tensor
    labels: Tensor
    about: About
    path: Path
    files_at: tuple[int, int]

    def files(self) -> list[list[Any]]:
        """Return the row that `write` stored for each image."""
        with self.path.open("rb") as file:
            file.seek(self.files_at[0])
            rows: list[list[Any]] = json.loads(file.read(self.files_at[1] - self.files_at[0]))
        return rows


def rows_in_block(shape: Sequence[int]) -> int:
    """Return the number of images of a shape (C, H, W) in a block, at least one."""
    return max(1, BLOCK // math.prod(shape))


def write(
    path: Path,
    blocks: Iterable[npt.NDArray[np.uint8]],
    shape: tuple[int, int, int, int],
    labels: Sequence[int],
    about: About,
    files: Sequence[Sequence[Any]],
) -> None:
    """Write a file block by block, so that only one block is in memory at a time.

    Args:
        path: the file; it appears when it is complete.
        blocks: the pixels in order, `rows_in_block` images in each but the last.
        shape: (N, C, H, W) of all pixels.
        labels: N indices into the classes.
        about: the classes, the number of training images, and the skipped files.
        files: N rows of numbers and text, to store for each image.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    small = {
        "labels": ("I64", (len(labels),), np.asarray(labels, "<i8").tobytes()),
        "about": ("U8", None, json.dumps(asdict(about)).encode()),
        "files": ("U8", None, json.dumps(files, separators=(",", ":")).encode()),
    }
    rest = b"".join(data for _, _, data in small.values())
    table: dict[str, Any] = {}
    end = math.prod(shape)
    table["pixels"] = {"dtype": "U8", "shape": shape, "data_offsets": (0, end)}
    for name, (kind, dims, data) in small.items():
        table[name] = {"dtype": kind, "shape": dims or (len(data),), "data_offsets": (end, end + len(data))}
        end += len(data)

    def head(sums: list[int]) -> bytes:
        table["__metadata__"] = {"crc32": " ".join(f"{crc:08x}" for crc in sums), "rest": f"{zlib.crc32(rest):08x}"}
        text = json.dumps(table).encode()
        text += b" " * (-(8 + len(text)) % 4096)  # pixels start on a page
        return len(text).to_bytes(8, "little") + text

    with writing(path) as draft, draft.open("wb") as file:
        file.write(head([0] * -(-shape[0] // rows_in_block(shape[1:]))))  # room for the checksums, written below
        sums = []
        for block in blocks:
            data = block.tobytes()
            sums.append(zlib.crc32(data))
            file.write(data)
        file.write(rest)
        file.seek(0)
        file.write(head(sums))


def read(path: Path) -> Stored | None:
    """Map a file that `write` wrote; return None if it is missing or not as it was written."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            file_size = path.stat().st_size
            if not 0 < length <= file_size:
                return None
            table, start = json.loads(file.read(length)), 8 + length
            spans = {name: tuple(start + at for at in table[name]["data_offsets"]) for name in _PARTS}
            if spans["files"][1] != file_size:
                return None
            file.seek(spans["labels"][0])
            rest = file.read()
        if zlib.crc32(rest) != int(table["__metadata__"]["rest"], 16):
            return None
        first = spans["labels"][0]
        labels, about = (rest[begin - first : end - first] for begin, end in (spans["labels"], spans["about"]))
        shape = tuple(table["pixels"]["shape"])
        # "c", copy on write: PyTorch wants memory that may be written; the file is never changed
        pixels = np.memmap(path, np.uint8, "c", start, shape)
        if not all(_intact(pixels, [int(crc, 16) for crc in table["__metadata__"]["crc32"].split()])):
            return None
        known = json.loads(about)
        skipped = tuple(Skipped(*pair) for pair in known["skipped"])
        return Stored(
            torch.from_numpy(pixels),
            torch.from_numpy(np.frombuffer(labels, "<i8").astype(np.int64)),
            About(tuple(known["classes"]), known["train"], skipped),
            path,
            (spans["files"][0], spans["files"][1]),
        )
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError):  # from damaged JSON
        return None


_PARTS = ("pixels", "labels", "about", "files")


def _intact(pixels: npt.NDArray[np.uint8], sums: list[int]) -> Iterator[bool]:
    """Yield whether each checked block is as it was written: at most `CHECKED` of them, evenly spread."""
    rows = rows_in_block(pixels.shape[1:])
    yield len(sums) == -(-len(pixels) // rows)
    for i in sorted({round(at) for at in np.linspace(0, len(sums) - 1, min(CHECKED, len(sums)))}):
        yield zlib.crc32(pixels[i * rows : (i + 1) * rows].tobytes()) == sums[i]
