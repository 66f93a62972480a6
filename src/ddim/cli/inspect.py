"""`ddim inspect`: what a data set holds, before anything is trained on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

if TYPE_CHECKING:
    from ddim.data.survey import Survey

MOST = 20  # lines of a list, unless all are asked for
FEW = 500  # images: with fewer, a network learns them by heart
SPARSE = 20  # images of a class
CROPPED = 0.25  # share of the area that may be cut away before a word is said


@dataclass(frozen=True)
class Inspect:
    """Say what a data set holds and what training will make of it, and draw a grid of it.

    A folder is decoded on the way, so a training of the same size that follows starts at once.

    For example:
      ddim inspect photos/
      ddim inspect photos/ --size 64 --all
      ddim inspect photos/ --classes cat,dog --out cats-and-dogs.png
      ddim inspect mnist
      ddim inspect hf:user/name
    """

    what: Positional[str]
    """A folder of images, a data set by name (digits, mnist, cifar10, airplanes), or a hub id."""

    size: int | None = None
    """Pixels a side that the images are to have; if not given, small squares keep theirs, others get 32."""

    classes: str | None = None
    """Look at these classes alone, e.g. cat,dog."""

    all: bool = False
    """List every file that cannot be read and every copy, not only the first 20."""

    out: Path | None = None
    """The picture; NAME-inspect.png if not given."""

    data_dir: Path | None = None
    """Folder with the files of a data set that has a name; DDIM_DATA, then a download, if not given."""

    def run(self) -> None:
        from ddim.data import catalogue, names, open_images, to_uint8
        from ddim.data.survey import spread, survey
        from ddim.pictures import write_grid

        if self.what in names():
            images, held_out = (
                open_images(self.what, classes=self.classes, size=self.size, split=split, data_dir=self.data_dir)
                for split in ("train", "test")
            )
            classes = len(images.classes)
            counts = zip(
                images.classes,
                images.labels.bincount(minlength=classes).tolist(),
                held_out.labels.bincount(minlength=classes).tolist(),
                strict=True,
            )
            lines = [
                f"{images.name}: {len(images):,} images to train on, {len(held_out):,} to test on",
                *(f"  {name}: {train:,} and {test:,}" for name, train, test in counts),
                f"Training sees {_shape(images.shape)}, {_mirror(images.mirror)}.",
            ]
            name, some = images.name, to_uint8(images.batch(spread(len(images), 64))[0])
        else:
            found = survey(catalogue(self.what, self.classes), self.size)
            lines = [*describe(found, None if self.all else MOST)]
            name, some = found.name, found.preview()
        out = self.out or Path(f"{name}-inspect.png")
        print("\n".join(lines))
        write_grid(some, out)
        print(f"{len(some)} of the images, as training sees them, are in {out}.")


def describe(found: "Survey", most: int | None = MOST) -> Iterator[str]:
    """The lines that are printed of a folder; at most `most` of each list, None for all."""
    from ddim.data.catalogue import printable

    total = len(found.facts)
    train = sum(train for _, train, _ in found.counts)
    plural = "class" if len(found.classes) == 1 else "classes"
    yield f"{printable(found.name)}: {_images(total)} in {len(found.classes):,} {plural}"
    for name, some, held_out in found.counts:
        yield f"  {printable(name)}: {some:,} to train on, {held_out:,} held out"
    sizes = [f"{width} × {height}" for width, height in found.sizes]
    yield f"Sizes: smallest {sizes[0]}, median {sizes[1]}, largest {sizes[2]}"
    yield "Kinds: " + ", ".join(f"{count:,} {kind}" for kind, count in found.kinds)
    if found.ignored:
        suffixes = ", ".join(
            f"{count:,} {printable(kind) or 'no suffix'}" for kind, count in found.ignored.most_common(10)
        )
        yield f"Passed over, not images: {found.ignored.total():,} ({suffixes})"
    if found.skipped:
        yield f"Left out, not readable: {len(found.skipped):,}"
        yield from _list([f"{printable(name)} {reason}" for name, reason in found.skipped], most)
    if found.copies:
        more = sum(len(group) - 1 for group in found.copies)
        yield f"Copies, the same byte for byte: {more:,} to spare"
        yield from _list([" = ".join(map(printable, group)) for group in found.copies], most)
    shape = (found.pixels.shape[1], found.size, found.size)
    yield f"Training sees {_shape(shape)}: {_images(train)}, {_mirror(True)}; {total - train:,} are held out"
    yield f"  cut to their central squares, which loses {found.lost:.0%} of the area"
    for warning in warnings(found):
        yield f"Beware: {warning}"


def warnings(found: "Survey") -> Iterator[str]:
    """What will hurt, in words."""
    from ddim.data.catalogue import printable

    total = len(found.facts)
    if total < FEW:
        yield f"{_images(total)} are few; below about {FEW} a network tends to repeat what it saw."
    sparse = [f"{printable(name)} ({train})" for name, train, _ in found.counts if train < SPARSE]
    if sparse and len(found.classes) > 1:
        more = f" and {len(sparse) - 10:,} more" if len(sparse) > 10 else ""
        yield f"classes with less than {SPARSE} images are hardly learnt: {', '.join(sparse[:10])}{more}."
    if found.lost > CROPPED:
        yield f"cutting to squares loses {found.lost:.0%} of the area; better crop the images yourself."
    if found.enlarged:
        yield (
            f"{found.enlarged:,} of {_images(total)} are smaller than {found.size} pixels and will be blurred by "
            "enlarging; a smaller --size avoids that."
        )
    if found.leaked:
        yield f"of the images to test on, {found.leaked:,} are there to train on too; tests will flatter."


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} × {width} pixels, {'colour' if channels == 3 else 'grey'}"


def _mirror(mirror: bool) -> str:
    return "half of them mirrored" if mirror else "never mirrored"


def _list(items: list[str], most: int | None) -> Iterator[str]:
    yield from (f"  {item}" for item in items[:most])
    if most is not None and len(items) > most:
        yield f"  and {len(items) - most:,} more; --all lists them"
