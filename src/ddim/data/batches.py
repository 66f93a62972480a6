"""One file of CIFAR-10, in either of its two layouts, as images and labels."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ddim.data import unpickle
from ddim.data.unpickle import Call
from ddim.errors import UserError

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
CLASSES = 10


class Batch(NamedTuple):
    """Images (N, 3, 32, 32) and labels (N,), both uint8."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def read_python(data: bytes, source: str) -> Batch:
    """A batch of the "python version": a pickled dict of an (N, 3072) array and a list of labels.

    The pickle is never executed, see `ddim.data.unpickle`: the array is rebuilt here from its bytes.

    Reference: Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

    Args:
        data: the content of the file, as Python 2 wrote it or as Python 3 rewrote it in protocol 2 to 4.
        source: the file's name, for the error message.

    Raises:
        UserError: the file is damaged, wants something run, or holds anything but such a batch.
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
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise UserError(f"{source} holds labels that are not whole numbers from 0 to 9; replace it.")
    return Batch(np.frombuffer(pixels, np.uint8).reshape(-1, *SHAPE), np.array(labels, np.uint8))


def read_binary(data: bytes, source: str) -> Batch:
    """A batch of the "binary version": for each image one byte of label, then 3072 of pixels.

    Reference, arguments and errors: as `read_python`.
    """
    if len(data) % (1 + PIXELS):
        raise UserError(
            f"{source} holds {len(data)} bytes, not a multiple of {1 + PIXELS}; remove it and download it again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    labels = records[:, 0]
    if (labels >= CLASSES).any():
        raise UserError(f"{source} holds labels that are not from 0 to 9; replace it by the official file.")
    return Batch(records[:, 1:].reshape(-1, *SHAPE), labels)
