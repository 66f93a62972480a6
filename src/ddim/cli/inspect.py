"""`ddim inspect`: the contents of a data set, before training on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir, PathFlag
from ddim.errors import UserError
from ddim.text import counted, listed, printable

if TYPE_CHECKING:
    from ddim.data.augmentations import Augmentations
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
      ddim inspect photos/ --image-size 64 --all
      ddim inspect photos/ --image-size 48x64 --crop fit
      ddim inspect arrays.npz
      ddim inspect photos/ --classes cat,dog --out cats-and-dogs.png
      ddim inspect mnist
      ddim inspect hf:user/name
    """

    what: Annotated[Positional[str], arg(metavar="DATA")]
    """A folder of images or arrays, a .npy or .npz file, a named data set (see `ddim list data`), or a hub id."""
    image_size: Annotated[int | str | None, arg(aliases=["--size"])] = None
    """Side length of the images in pixels, or HEIGHTxWIDTH; if not given, arrays and small squares keep their size and
    others become 32."""
    crop: Literal["centre", "random", "fit"] = "centre"
    """What is kept of an image of another aspect: a window at its centre or at random, or all, with black bars."""
    range: tuple[float, float] | None = None
    """Of arrays: the numbers that become -1 and 1."""
    classes: str | None = None
    """Use only these classes, e.g. cat,dog."""
    all: bool = False
    """List every file that is left out and every duplicate, not only the first 20."""
    out: PathFlag | None = None
    """PNG file for the picture; NAME-inspect.png if not given."""
    data_dir: DataDir = None

    def run(self) -> dict[str, Any]:
        from ddim.data import catalogue, names, open_images, to_uint8
        from ddim.data.survey import spread, survey
        from ddim.pictures import visible, write_grid

        out = self.out
        how: dict[str, Any] = {"size": self.image_size, "crop": self.crop, "range": self.range}
        if out is not None and out.suffix.lower() != ".png":
            raise UserError(f"The picture is a PNG, and --out is {out}; give a name that ends in .png.")
        if self.what in names():
            images, held_out = (
                open_images(self.what, classes=self.classes, split=split, data_dir=self.data_dir, **how)
                for split in ("train", "test")
            )
            classes = images.classes
            counted_of = (part.labels.bincount(minlength=len(classes)).tolist() for part in (images, held_out))
            counts = list(zip(classes, *counted_of, strict=True))
            lines = [
                f"{images.name}: {counted(len(images), 'image')} for training, {len(held_out):,} for testing",
                *(f"  {name}: {train:,} and {test:,}" for name, train, test in counts),
                f"Training images: {_shape(images.shape)}, {_mirror(images.mirror)}.",
                augmentations(images.augmentations, images.shape[0]),
            ]
            name, shown = images.name, to_uint8(images.batch(spread(len(images), 64))[0])
        elif self.data_dir is not None:
            raise UserError(f"{self.what} is not one of {', '.join(names())}; leave out --data-dir.")
        else:
            found = survey(catalogue(self.what, self.classes), **how)
            lines = [*describe(found, None if self.all else MOST)]
            name, shown, counts = found.name, found.preview(), list(found.counts)
        out = out or Path(f"{name}-inspect.png")
        print("\n".join(map(printable, lines)))
        write_grid(visible(shown), out)
        print(f"{printable(str(out))} shows {len(shown)} of the images, as training uses them.")
        splits = {of: {"train": train, "held_out": test} for of, train, test in counts}
        return {"name": name, "classes": splits, "description": lines, "picture": str(out)}


def describe(found: "Survey", most: int | None = MOST) -> Iterator[str]:
    """Yield the lines about a folder, with at most `most` entries of each list; None lists all."""
    from ddim.data.augmentations import PHOTOGRAPHS, SHAPE

    total = len(found.facts)
    train = sum(train for _, train, _ in found.counts)
    classes = counted(len(found.classes), "class", "classes")
    yield f"{found.name}: {counted(total, 'image')} in {classes}"
    if found.splits:
        yield f"Splits: {found.splits}"
    for name, training, held_out in found.counts:
        yield f"  {name}: {training:,} for training, {held_out:,} held out"
    sizes = [f"{width} × {height}" for width, height in found.sizes]
    yield f"Sizes: smallest {sizes[0]}, median {sizes[1]}, largest {sizes[2]}"
    yield "Formats: " + ", ".join(f"{count:,} {kind}" for kind, count in found.kinds)
    if found.ignored:
        kinds = (f"{count:,} {kind or 'no suffix'}" for kind, count in found.ignored.most_common(10))
        yield f"Ignored, not images: {found.ignored.total():,} ({', '.join(kinds)})"
    if found.skipped:
        yield f"Left out: {counted(len(found.skipped), 'file')}"
        yield from _list([f"{name} {reason}" for name, reason in found.skipped], most)
    if found.copies:
        more = sum(len(group) - 1 for group in found.copies)
        yield f"Duplicates, identical byte for byte: {more:,}"
        yield from _list([" = ".join(group) for group in found.copies], most)
    shape, values = (found.pixels.shape[1], *found.size), found.values
    yield f"Training images: {train:,} of {_shape(shape)}, {_mirror(values is None)}; held out: {total - train:,}"
    if values is not None:
        low, high = values.range
        yield f"  {values.dtype} in the order {values.layout}: {low:g} becomes -1, and {high:g} becomes 1"
    if found.crop == "fit":
        yield "  fitted whole, with black bars"
    elif found.lost or values is None:
        kept = "squares" if shape[1] == shape[2] else f"windows of {shape[1]} to {shape[2]}"
        where = "central" if found.crop == "centre" else "random"
        yield f"  cropped to their {where} {kept}, which removes {found.lost:.0%} of the area"
    yield augmentations(PHOTOGRAPHS if values is None else SHAPE, shape[0])
    for warning in warnings(found):
        yield f"Warning: {warning}"


def warnings(found: "Survey") -> Iterator[str]:
    """Yield a sentence for each property of the images that will harm the training or its evaluation."""
    yield from found.warnings
    total = len(found.facts)
    if total < FEW:
        yield f"only {counted(total, 'image')}; a network tends to memorise fewer than about {FEW}."
    if not any(held_out for _, _, held_out in found.counts):
        yield "no image can be held out; training needs two that differ."
    if absent := [name for name, train, _ in found.counts if not train]:
        yield f"classes without a training image cannot be learnt: {listed(absent, 10)}."
    sparse = [f"{name} ({train})" for name, train, _ in found.counts if 0 < train < SPARSE]
    if sparse and len(found.classes) > 1:
        yield f"classes with fewer than {SPARSE} training images are learnt poorly: {listed(sparse, 10)}."
    if found.flat:
        yield f"{found.flat:,} of {counted(total, 'image')} {'has' if found.flat == 1 else 'have'} only one colour."
    if found.lost > CROPPED:
        yield f"cropping removes {found.lost:.0%} of the area; crop the images yourself, or keep all by --crop fit."
    if found.enlarged:
        yield (
            f"{found.enlarged:,} of {counted(total, 'image')} {'is' if found.enlarged == 1 else 'are'} smaller than "
            f"{' × '.join(map(str, dict.fromkeys(found.size)))} pixels and will be enlarged, which blurs; choose a "
            "smaller --image-size."
        )
    if found.leaked:
        leaked = counted(found.leaked, "held-out image is", "held-out images are")
        yield f"{leaked} in the training split too; test results will look too good."


def augmentations(own: "Augmentations", channels: int) -> str:
    """Return the line about what --augment does to the images."""
    from ddim.data.augmentations import in_words, resolve

    return f"With --augment P, each with probability P: {in_words(resolve(own, channels))}."


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{height} × {width} pixels, {kind}"


def _mirror(mirror: bool) -> str:
    return "mirrored with probability 1/2" if mirror else "never mirrored"


def _list(items: list[str], most: int | None) -> Iterator[str]:
    yield from (f"  {item}" for item in items[:most])
    if most is not None and len(items) > most:
        yield f"  and {len(items) - most:,} more; --all lists them"
