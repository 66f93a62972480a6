"""IDX, the format of the MNIST files: a magic number, the sizes, then the bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddim.errors import UserError

REMEDY = "remove it and download it again"


def read(path: Path, dims: int) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, gzipped or not.

    Reference: http://yann.lecun.com/exdb/mnist/, "the IDX file format".

    Args:
        path: the file; whether it is gzipped is seen from its content, not from its name.
        dims: how many dimensions the array must have: 3 for images, 1 for labels.

    Raises:
        UserError: the file cannot be read, is damaged, truncated, too long, empty, or of another kind.
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
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()  # a copy: PyTorch wants it writable
