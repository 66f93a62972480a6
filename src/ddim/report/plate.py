"""A figure of the report: what it shows, what it means, what it is drawn from, and how it gets into the folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim.files import write_bytes
from ddim.report.record import Record
from ddim.report.sheet import save, styled


@dataclass(frozen=True)
class Plate:
    """A figure of the report.

    Attributes:
        name: of its files in `figures/`.
        title: a few words.
        paper: where the paper, or DDIM's, has its like.
        text: what it shows, in HTML.
        command: makes what it is drawn from.
        draw: the figure, or the bytes of a GIF; None if what it is drawn from is not there.
    """

    name: str
    title: str
    paper: str
    text: str
    command: str
    draw: Callable[[Record], Any]


@dataclass(frozen=True)
class Hung:
    """A plate, and the file to show for it: None if it could not be drawn."""

    plate: Plate
    file: Path | None


def hang(plate: Plate, record: Record) -> Hung:
    """Draw a plate into `figures/`; where there is nothing to draw, an older drawing goes too."""
    stem = record.folder / "figures" / plate.name
    with styled():
        drawn = plate.draw(record)
        if isinstance(drawn, bytes):
            write_bytes(stem.with_suffix(".gif"), drawn)
            return Hung(plate, stem.with_suffix(".gif"))
        if drawn is not None:
            save(drawn, stem)
            return Hung(plate, stem.with_suffix(".svg"))
    for suffix in (".png", ".svg", ".gif"):
        stem.with_suffix(suffix).unlink(missing_ok=True)
    return Hung(plate, None)


def root(words: str) -> str:
    """The square root of a formula, in HTML."""
    return f'√<span class="root">{words}</span>'
