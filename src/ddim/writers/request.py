"""Which images a command writes, and what the images in one place have in common."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim.errors import UserError

OF_ONE = ("index", "label", "backend", "ddim")  # settings in which the images of one folder or file may differ


@dataclass(frozen=True)
class Request:
    """The images to write.

    Attributes:
        rows: their indices in the sequence of images of the seed.
        shape: (C, H, W) of an image.
        settings: what determines the images but for their indices, as a table of plain data.
        labels: the class of the first images; the others repeat them. None for a model without classes.
    """

    rows: range
    shape: tuple[int, ...]
    settings: dict[str, Any]
    labels: Sequence[int] | None = None

    def label(self, index: int) -> int | None:
        """Return the class of an image; None for a model without classes."""
        return None if self.labels is None else self.labels[(index - self.rows.start) % len(self.labels)]

    def labels_of(self, rows: range) -> list[int] | None:
        """Return the classes of images; None for a model without classes."""
        return None if self.labels is None else [self.labels[(i - self.rows.start) % len(self.labels)] for i in rows]


def common(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings that all images of a folder or a file share."""
    return {name: value for name, value in (settings or {}).items() if name not in OF_ONE}


@contextlib.contextmanager
def shared(place: Path) -> Iterator[None]:
    """Within this context, one of several processes reads what the first of them has begun."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{place} is missing for one of the processes; put --out where all machines see it.") from error
