"""Decoded images on the disk: one file, whole or absent, whose pixels are memory-mapped.

The file is in the safetensors format (https://github.com/huggingface/safetensors): `pixels` (N, C, H, W), uint8 or the
type of the arrays, training images before test images, `labels` (N,) int64, and JSON as bytes in `about` and `files`.
The code here writes it block by block, which the safetensors package cannot.
"""

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ddim.data.catalogue import Skipped
from ddim.data.download import ELSEWHERE
from ddim.errors import UserError
from ddim.files import writing

BLOCK = 1 << 20  # bytes of pixels per checksum, approximately
TYPES = {"U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""Type in the safetensors format -> NumPy's."""
CHECKED = 64  # blocks verified at each opening; a truncated file has the wrong length


class Fact(NamedTuple):
    """What is stored of each image file besides its pixels."""

    name: str
    label: int
    split: str
    digest: str
    width: int
    height: int
    mode: str
    format: str
    colour: bool
    darkest: float  # of the pixels, 0 to 255; of an array, its least number
    brightest: float
    flat: bool  # all pixels have one colour


@dataclass(frozen=True)
class Stored:
    """A cached copy of a folder or hub data set."""

    pixels: Tensor  # (N, C, H, W), memory-mapped; training images come first
    labels: Tensor  # (N,) int64
    classes: tuple[str, ...]
    train: int  # number of training images
    skipped: tuple[Skipped, ...]  # the files that were left out
    path: Path
    files_at: tuple[int, int]  # byte range of `files`
    files_sum: int  # the CRC-32 of `files`
    levels: tuple[float, float]  # the darkest and the brightest of all pixels
    layout: str = ""  # of arrays, the order of their axes, see `ddim.values`; "" for pictures
    fresh: bool = False  # whether the images were decoded just now

    def files(self) -> list[Fact]:
        """Return what is stored of the file of each image.

        Raises:
            UserError: the file has been replaced or damaged since it was opened.
        """
        start, end = self.files_at
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                text = file.read(end - start)
        except OSError:
            text = b""
        if zlib.crc32(text) != self.files_sum:
            raise UserError(f"{self.path} was replaced or damaged after it was opened; open the images again.")
        return [Fact(*row) for row in json.loads(text)]


def rows_in_block(shape: Sequence[int], itemsize: int = 1) -> int:
    """Return the number of images of a shape (C, H, W) in a block, at least one; `itemsize` is in bytes."""
    return max(1, BLOCK // (math.prod(shape) * itemsize))


def write(
    path: Path,
    blocks: Iterable[npt.NDArray[Any]],
    shape: tuple[int, int, int, int],
    files: Sequence[Fact],
    about: dict[str, Any],
    dtype: str = "<u1",
) -> None:
    """Write a file block by block, so that only one block is in memory at a time.

    Args:
        path: the file; it appears when it is complete.
        blocks: the pixels in order, `rows_in_block` images in each but the last.
        shape: (N, C, H, W) of all pixels.
        files: what to store of each of the N image files.
        about: the `classes`, the number of `train` images, the `levels` of the pixels, and the `skipped` files;
            of arrays also their `layout`.
        dtype: the type of the pixels, one of the values of `TYPES`.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    small = {
        "labels": ("I64", (len(files),), np.asarray([fact.label for fact in files], "<i8").tobytes()),
        "about": ("U8", None, json.dumps(about).encode()),
        "files": ("U8", None, json.dumps(files, separators=(",", ":")).encode()),
    }
    rest = b"".join(data for _, _, data in small.values())
    itemsize = np.dtype(dtype).itemsize
    end = math.prod(shape) * itemsize
    kinds = {ours: theirs for theirs, ours in TYPES.items()}
    table: dict[str, Any] = {"pixels": {"dtype": kinds[dtype], "shape": shape, "data_offsets": (0, end)}}
    for name, (kind, dims, data) in small.items():
        table[name] = {"dtype": kind, "shape": dims or (len(data),), "data_offsets": (end, end + len(data))}
        end += len(data)

    def head(sums: list[int]) -> bytes:
        table["__metadata__"] = {"crc32": " ".join(f"{crc:08x}" for crc in sums), "rest": f"{zlib.crc32(rest):08x}"}
        table["__metadata__"]["head"] = f"{_crc(table):08x}"
        text = json.dumps(table).encode()
        text += b" " * (-(8 + len(text)) % 4096)  # pixels start on a page
        return len(text).to_bytes(8, "little") + text

    with writing(path, ELSEWHERE) as draft, draft.open("wb") as file:
        file.write(
            head([0] * -(-shape[0] // rows_in_block(shape[1:], itemsize)))
        )  # room for the checksums, written below
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
            sums = table["__metadata__"]
            if int(sums.pop("head"), 16) != _crc(table):  # older versions wrote none
                return None
            (first, _), (middle, _), (last, end) = (
                table[name]["data_offsets"] for name in ("labels", "about", "files")
            )
            if start + end != file_size:
                return None
            file.seek(start + first)
            rest = file.read()
        # "c", copy on write: PyTorch wants memory that may be written; the file is never changed
        kind, shape = np.dtype(TYPES[table["pixels"]["dtype"]]), tuple(table["pixels"]["shape"])
        pixels = np.memmap(path, kind, "c", start, shape)
        if zlib.crc32(rest) != int(sums["rest"], 16) or not _intact(pixels, sums["crc32"].split()):
            return None
        about = json.loads(rest[middle - first : last - first])
        darkest, brightest = about["levels"]
        return Stored(
            pixels=torch.from_numpy(pixels),
            labels=torch.from_numpy(np.frombuffer(rest[: middle - first], "<i8").astype(np.int64)),
            classes=tuple(about["classes"]),
            train=about["train"],
            skipped=tuple(Skipped(*pair) for pair in about["skipped"]),
            path=path,
            files_at=(start + last, start + end),
            files_sum=zlib.crc32(rest[last - first :]),
            levels=(darkest, brightest),
            layout=about.get("layout", ""),
        )
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # all but the first are from damaged JSON


def _crc(table: dict[str, Any]) -> int:
    """Return the checksum of a header that lacks its own."""
    return zlib.crc32(json.dumps(table).encode())


def _intact(pixels: npt.NDArray[Any], sums: list[str]) -> bool:
    """Return whether the blocks are as they were written; of many, `CHECKED` are read, evenly spread."""
    rows = rows_in_block(pixels.shape[1:], pixels.itemsize)
    checked = {round(at) for at in np.linspace(0, len(sums) - 1, min(CHECKED, len(sums)))}
    return len(sums) == -(-len(pixels) // rows) and all(
        zlib.crc32(pixels[i * rows : (i + 1) * rows].tobytes()) == int(sums[i], 16) for i in sorted(checked)
    )
