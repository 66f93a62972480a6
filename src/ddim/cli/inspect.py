"""`ddim inspect`: the contents of a data set, before training on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir

if TYPE_CHECKING:
    from ddim.data.survey import Survey

MOST = 20  # lines of a list without --all
FEW = 500  # images: a network memorises fewer
SPARSE = 20  # images of a class: fewer give a warning
CROPPED = 0.25  # share of the area: cropping more gives a warning


@dataclass(frozen=True)
class Inspect:
    """Describe a data set and how training will use it, and draw a grid of its images.

    The decoded images are cached, so that training with the same image size starts immediately.

    For example:
      ddim inspect photos/
      ddim inspect photos/ --size 64 --all
      ddim inspect photos/ --classes cat,dog --out cats-and-dogs.png
      ddim inspect mnist
      ddim inspect hf:user/name
    """

    what: Annotated[Positional[str], arg(metavar="DATA")]
    """A folder of images, a named data set (see `ddim list data`), or a hub id."""
    size: int | None = None
    """Side length of the images in pixels; if not given, small squares keep their size and others become 32."""
    classes: str | None = None
    """Use only these classes, e.g. cat,dog."""
    all: bool = False
    """List every unreadable file and every duplicate, not only the first 20."""
    out: Path | None = None
    """File for the picture; NAME-inspect.png if not given."""
    data_dir: DataDir = None

    def run(self) -> None:
        from ddim.data import catalogue, names, open_images, to_uint8
        from ddim.data.survey import spread, survey
        from ddim.pictures import write_grid

        if self.what in names():
            images, held_out = (
                open_images(self.what, classes=self.classes, size=self.size, split=split, data_dir=self.data_dir)
                for split in ("train", "test")
            )
            classes = images.classes
            counts = (part.labels.bincount(minlength=len(classes)).tolist() for part in (images, held_out))
            lines = [
                f"{images.name}: {len(images):,} images for training, {len(held_out):,} for testing",
                *(f"  {name}: {train:,} and {test:,}" for name, train, test in zip(classes, *counts, strict=True)),
                f"Training images: {_shape(images.shape)}, {_mirror(images.mirror)}.",
            ]
            name, shown = images.name, to_uint8(images.batch(spread(len(images), 64))[0])
        else:
            found = survey(catalogue(self.what, self.classes), self.size)
            lines = [*describe(found, None if self.all else MOST)]
            name, shown = found.name, found.preview()
        out = self.out or Path(f"{name}-inspect.png")
        print("\n".join(lines))
        write_grid(shown, out)
        print(f"{out} shows {len(shown)} of the images, as training uses them.")


def describe(found: "Survey", most: int | None = MOST) -> Iterator[str]:
    """Yield the lines about a folder, with at most `most` entries of each list; None lists all."""
    from ddim.data.catalogue import printable

    total = len(found.facts)
    train = sum(train for _, train, _ in found.counts)
    plural = "class" if len(found.classes) == 1 else "classes"
    yield f"{printable(found.name)}: {_images(total)} in {len(found.classes):,} {plural}"
    for name, training, held_out in found.counts:
        yield f"  {printable(name)}: {training:,} for training, {held_out:,} held out"
    sizes = [f"{width} × {height}" for width, height in found.sizes]
    yield f"Sizes: smallest {sizes[0]}, median {sizes[1]}, largest {sizes[2]}"
    yield "Formats: " + ", ".join(f"{count:,} {kind}" for kind, count in found.kinds)
    if found.ignored:
        kinds = (f"{count:,} {printable(kind) or 'no suffix'}" for kind, count in found.ignored.most_common(10))
        yield f"Ignored, not images: {found.ignored.total():,} ({', '.join(kinds)})"
    if found.skipped:
        yield f"Left out, unreadable: {len(found.skipped):,}"
        yield from _list([f"{printable(name)} {reason}" for name, reason in found.skipped], most)
    if found.copies:
        more = sum(len(group) - 1 for group in found.copies)
        yield f"Duplicates, identical byte for byte: {more:,}"
        yield from _list([" = ".join(map(printable, group)) for group in found.copies], most)
    shape = (found.pixels.shape[1], found.size, found.size)
    yield f"Training images: {train:,} of {_shape(shape)}, {_mirror(True)}; {total - train:,} more are held out"
    yield f"  cropped to their central squares, which removes {found.lost:.0%} of the area"
    for warning in warnings(found):
        yield f"Warning: {warning}"


def warnings(found: "Survey") -> Iterator[str]:
    """Yield a sentence for each property of the images that will harm the training or its evaluation."""
    from ddim.data.catalogue import printable

    total = len(found.facts)
    if total < FEW:
        yield f"{_images(total)} are few; a network tends to memorise fewer than about {FEW}."
    sparse = [f"{printable(name)} ({train})" for name, train, _ in found.counts if train < SPARSE]
    if sparse and len(found.classes) > 1:
        more = f" and {len(sparse) - 10:,} more" if len(sparse) > 10 else ""
        yield f"classes with fewer than {SPARSE} training images are learnt poorly: {', '.join(sparse[:10])}{more}."
    if found.lost > CROPPED:
        yield f"cropping to squares removes {found.lost:.0%} of the area; crop the images yourself to choose which."
    if found.enlarged:
        yield (
            f"{found.enlarged:,} of {_images(total)} are smaller than {found.size} pixels and will be enlarged, "
            "which blurs them; choose a smaller --size."
        )
    if found.leaked:
        is_also = "image is" if found.leaked == 1 else "images are"
        yield f"{found.leaked:,} held-out {is_also} in the training split too; test results will look too good."


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} × {width} pixels, {'colour' if channels == 3 else 'grey'}"


def _mirror(mirror: bool) -> str:
    return "mirrored with probability 1/2" if mirror else "never mirrored"


def _list(items: list[str], most: int | None) -> Iterator[str]:
    yield from (f"  {item}" for item in items[:most])
    if most is not None and len(items) > most:
        yield f"  and {len(items) - most:,} more; --all lists them"
