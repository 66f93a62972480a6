"""Which images a command writes, and what a writer of images is."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ddim.errors import UserError
from ddim.values import Values

VARYING = ("index", "label", "backend", "plan", "ddim", "timesteps", "batch_size", "batch")
"""Settings in which the images of one folder or file may differ, or that follow from the others."""


@dataclass(frozen=True)
class Request:
    """The images to write.

    Attributes:
        rows: their indices in the sequence of images of the seed.
        shape: (C, H, W) of an image.
        settings: what determines the images but for their indices, as a table of plain data.
        labels: the class of the first images; the others repeat them. None for a model without classes.
        values: the range, type and layout of the numbers in an array; None is 256 grey levels, channels last.
    """

    rows: range
    shape: tuple[int, ...]
    settings: dict[str, Any]
    labels: Sequence[int] | None = None
    values: Values | None = None

    def label(self, index: int) -> int | None:
        """Return the class of an image; None for a model without classes."""
        return None if self.labels is None else self.labels[(index - self.rows.start) % len(self.labels)]

    def labels_of(self, rows: range) -> list[int] | None:
        """Return the classes of images; None for a model without classes."""
        return None if self.labels is None else [self.labels[(i - self.rows.start) % len(self.labels)] for i in rows]

    def of(self, index: int) -> dict[str, Any]:
        """Return the settings of one image, and the batch that it is drawn in, which rounds it."""
        found, size = {**self.settings, "index": index, "label": self.label(index)}, self.settings.get("batch_size")
        if size is not None:
            start = index - (index - self.rows.start) % size
            rows = range(start, min(start + size, self.rows.stop))
            found["batch"] = {"first": start, "count": len(rows), "labels": self.labels_of(rows)}
        return found


class Writer(ABC):
    """Writes the images of a request batch by batch. What a killed command has written stays, and is continued.

    Several processes may write at once, each its own images; one of them locks, begins, and finishes or discards. The
    methods raise `UserError` if a file cannot be read or written.

    Args:
        path: the folder or the file that the images become.
        request: the images.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self.path, self.request = path, request

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Return a context in which no other command writes here. Raises `UserError` if one does."""

    @abstractmethod
    def kept(self) -> dict[str, Any]:
        """Return the settings of the images that are there, also of an interrupted command; {} if there are none."""

    @abstractmethod
    def begin(self) -> None:
        """Prepare to write, and remove the drafts that a killed command left.

        Raises `UserError` if images are there that have other settings, or that this command has not written.
        """

    @abstractmethod
    def done(self) -> bytearray:
        """Return a byte for each image of the request: 1 if it is written."""

    @abstractmethod
    def write(self, indices: Sequence[int], images: Tensor) -> None:
        """Write the images of these indices, (B, C, H, W): uint8, or with `Request.values` floats in [-1, 1]."""

    @abstractmethod
    def size(self, count: int, images: Tensor | None = None) -> int:
        """Return the bytes that `count` images take on the disk, judged by `images` if there are some."""

    def finish(self) -> None:  # noqa: B027 - a folder has nothing to complete
        """Complete the file that holds all images, if there is one."""

    def discard(self) -> None:  # noqa: B027 - nor to remove
        """Remove what was begun, if no image is written."""


def common(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings that all images of a folder or a file share."""
    return {name: value for name, value in (settings or {}).items() if name not in VARYING}


@contextlib.contextmanager
def report_unshared(place: Path) -> Iterator[None]:
    """Within this context, a process reads what another one has begun; if it is missing, raise `UserError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{place} is missing for one of the processes; put --out where all machines see it.") from error
