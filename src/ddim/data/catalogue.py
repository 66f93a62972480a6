"""The catalogue of a folder or of a hub data set: its image files, listed but not decoded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader, BytesIO
from typing import Any, NamedTuple

import numpy.typing as npt

from ddim.data.images import class_indices

LITTLE_CONTRAST = 64  # of 255 grey levels: images within fewer give a warning


class Skipped(NamedTuple):
    """A file that is left out, and the reason, a clause that follows its name: "a.png: is empty"."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file."""

    name: str  # its path in the set, e.g. "cat/001.png"; unique
    label: int  # index into the catalogue's classes
    split: str | None  # "train", "test", or None to let `ddim.data.build.held_out` decide
    open: Callable[[], BufferedReader | BytesIO]  # the caller closes the file


@dataclass(frozen=True)
class Catalogue:
    """The image files of one folder or hub data set."""

    name: str
    classes: tuple[str, ...]
    entries: Sequence[Entry]  # in order
    identity: str  # where the files come from; one cached copy is kept for each identity and image size
    state: str  # changes whenever one of the files does; a cached copy of another state is out of date
    skipped: tuple[Skipped, ...] = ()  # files that look like images and cannot be read
    ignored: Mapping[str, int] = field(default_factory=dict)  # suffix -> number of files that are not images
    selected: bool = False  # whether the user selected exactly these classes
    splits: str = ""  # a sentence: which folders are the splits, and which others are not used
    warning: str = ""  # a sentence: which folders have the name of a split and are read as classes
    vectors: npt.NDArray[Any] | None = None  # of an array file: the condition of each of its rows, selected or not
    arrays: bool = False  # whether the files are arrays, read without loss, and not pictures

    def select(self, classes: str | Sequence[str | int]) -> "Catalogue":
        """Return only some classes, as `Images.select` does; images of other classes are never decoded."""
        labels = {old: new for new, old in enumerate(class_indices(classes, self.classes, self.name))}
        names = tuple(self.classes[old] for old in labels)
        return replace(
            self,
            classes=names,
            entries=[replace(entry, label=labels[entry.label]) for entry in self.entries if entry.label in labels],
            identity=f"{self.identity} {names!a}",
            selected=True,
            warning="",  # the user named the classes
        )


def summary(skipped: Sequence[Skipped], count: int) -> str:
    """Return the first `count` skipped files with their reasons, on one line."""
    more = f"; and {len(skipped) - count:,} more" if len(skipped) > count else ""
    return "; ".join(f"{name} {reason}" for name, reason in skipped[:count]) + more


def contrast(levels: tuple[float, float]) -> str:
    """Return a warning about images whose darkest and brightest pixels are nearly equal; "" for others."""
    darkest, brightest = levels
    if brightest <= LITTLE_CONTRAST:
        return f"no pixel is above {brightest:g} of 255; if the files hold 12 bits in 16, multiply them by 16 first."
    if brightest - darkest <= LITTLE_CONTRAST:
        return f"all pixels lie between {darkest:g} and {brightest:g} of 255; increase the contrast of the files first."
    return ""


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return class names sorted, by value if all are whole numbers, so that 10 comes after 9."""
    names = set(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
