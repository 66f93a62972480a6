"""What there is to read: the images of a folder or of a hub data set, listed but not decoded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader, BytesIO
from typing import NamedTuple

from ddim.data.images import chosen
from ddim.errors import UserError


class Skipped(NamedTuple):
    """A file that is left out, and why, in a few words that go on from its name: "a.png: is empty"."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One image to be.

    Args:
        name: where it lies, e.g. "cat/001.png"; no two are the same.
        label: index into the catalogue's classes.
        split: "train", "test", or None to let `ddim.data.holdout` decide.
        open: gives the bytes of the file. The caller closes it.
    """

    name: str
    label: int
    split: str | None
    open: Callable[[], BufferedReader | BytesIO]


@dataclass(frozen=True)
class Catalogue:
    """The images of one place.

    Args:
        name: what the set is called.
        classes: the name of each class.
        entries: the images, in the order in which they are to stand.
        identity: where they come from; one cached copy is kept for each identity and image size.
        state: changes whenever one of the files does; a cached copy of another state is out of date.
        skipped: what looked like an image and cannot be one.
        ignored: suffix -> number of files, of those that never were images.
        picked: the user asked for exactly these classes.
    """

    name: str
    classes: tuple[str, ...]
    entries: Sequence[Entry]
    identity: str
    state: str
    skipped: tuple[Skipped, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    picked: bool = False

    def pick(self, classes: str | Sequence[str | int]) -> "Catalogue":
        """Only some classes, relabelled in the order asked; nothing of the others is ever decoded.

        Raises:
            UserError: as `Images.select`.
        """
        wanted = {old: new for new, old in enumerate(chosen(classes, self.classes, self.name))}
        names = tuple(self.classes[old] for old in wanted)
        return replace(
            self,
            classes=names,
            entries=[replace(one, label=wanted[one.label]) for one in self.entries if one.label in wanted],
            identity=f"{self.identity} {names!a}",
            picked=True,
        )


def none_readable(name: str, skipped: Sequence[Skipped]) -> UserError:
    """The sentence for a place that holds files but no image."""
    return UserError(
        f"No image in {name} can be read ({listed(skipped, 3)}); replace the files or name another folder."
    )


def listed(skipped: Sequence[Skipped], most: int) -> str:
    """The first few files that were left out, with their reasons, on one line."""
    more = f"; and {len(skipped) - most:,} more" if len(skipped) > most else ""
    return "; ".join(f"{shown(name)} {reason}" for name, reason in skipped[:most]) + more


def shown(name: str) -> str:
    """A file's name fit for a terminal: control characters and broken bytes are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def in_order(names: Iterable[str]) -> list[str]:
    """Class names, sorted; by value if all are whole numbers, so that 10 comes after 9."""
    names = set(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
