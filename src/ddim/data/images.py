"""A set of small images: pixels as they are stored, float32 in [-1, 1] to its users. And the registry of sets."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddim.data.augmentations import SHAPE, Augmentations
from ddim.data.crop import bring
from ddim.errors import UserError
from ddim.pictures import to_uint8
from ddim.registry import Registry
from ddim.text import listed
from ddim.values import DTYPES, MOST_PIXELS, Values

LONGEST = 4096  # numbers of the condition of an image
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False, repr=False)
class Images(Dataset[tuple[Tensor, int]]):
    """Labelled images, all of one shape.

    Grey level v is the number 2 v / (grey_levels - 1) - 1: black is exactly -1 and white exactly 1. The numbers of
    arrays are mapped by `values`.

    Args:
        pixels: (N, C, H, W) uint8, grey levels 0 .. grey_levels - 1, or with `values` numbers of their type; at least
            one image. In place of a tensor, an object that is indexed alike, see `ddim.data.items`.
        labels, classes: (N,) integers, indices into `classes`; the name of each class.
        name, split: the name of the set, e.g. "mnist"; "train" or "test".
        grey_levels: the number of values of a pixel, 2 to 256; a likelihood in bits depends on it. With `values`, it
            is theirs.
        mirror: whether training may mirror images left to right: airplanes, not digits.
        augmentations: what training with `Plan.augment` may do to them, see `ddim.data.augmentations`.
        values: the range and the type of the numbers of arrays; None for pictures.
        conditions: (N, D) float32, a vector that describes each image; None for images without.

    Raises:
        UserError: pixels, labels, classes or grey levels of another kind or shape. The values of the pixels are not
            checked, as they may be a file that is larger than the memory.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str = "train"
    grey_levels: int | None = 256
    mirror: bool = False
    augmentations: Augmentations = field(default_factory=lambda: SHAPE)
    values: Values | None = None
    conditions: Tensor | None = None

    def __post_init__(self) -> None:
        parts: tuple[tuple[str, Any], ...] = (("pixels", self.pixels), ("labels", self.labels))
        for given, value in parts:
            if not isinstance(value, Tensor) and not hasattr(value, "read"):  # those of `Items` have it
                raise UserError(
                    f"The {given} of Images must be a torch tensor; got {type(value).__name__}: convert an array by "
                    "torch.from_numpy, a list by torch.tensor."
                )
        shape, names, levels = tuple(self.pixels.shape), cast(Any, self.classes), cast(Any, self.grey_levels)
        if self.values is not None:
            if self.pixels.dtype != DTYPES[self.values.dtype]:
                raise UserError(
                    f"The pixels of Images must be {self.values.dtype}, as their values say; got {self.pixels.dtype}."
                )
            object.__setattr__(self, "grey_levels", self.values.grey_levels)
        elif self.pixels.dtype != torch.uint8:
            raise UserError(
                f"The pixels of Images must be uint8, grey levels 0 to 255; got {self.pixels.dtype}: open arrays "
                "by ddim.open_images(array), or convert images in [-1, 1] by ddim.data.to_uint8(x)."
            )
        if len(shape) != 4 or 0 in shape:
            raise UserError(
                f"The pixels of Images must have a shape (N, C, H, W), with at least one image; got {shape}"
                + (": add the channel of grey images by pixels.unsqueeze(1)." if len(shape) == 3 else ".")
            )
        if self.values is None and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4:
            raise UserError(
                f"The pixels of Images must have a shape (N, C, H, W), channels before height and width; got {shape}: "
                "reorder by pixels.permute(0, 3, 1, 2)."
            )
        if self.labels.shape != shape[:1] or self.labels.dtype not in _INTEGERS:
            raise UserError(
                f"Images need one integer label for each image, of shape {shape[:1]}; got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}."
            )
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise UserError(f'The classes of Images must be a tuple of names, e.g. ("cat", "dog"); got {names!r}.')
        least, most = (int(label) for label in self.labels.aminmax())
        if least < 0 or most >= len(names):
            raise UserError(
                f"The labels of Images are indices into its classes, of which there are {len(names)}; got labels from "
                f"{least} to {most}: name every class, and count from 0."
            )
        if self.values is None and (not isinstance(levels, Integral) or not 2 <= int(levels) <= 256):
            raise UserError(f"The grey levels of Images must be a whole number from 2 to 256; got {levels!r}.")
        if self.conditions is not None:
            object.__setattr__(self, "conditions", _vectors(self.conditions, len(self.labels)))
        object.__setattr__(self, "labels", self.labels.long())
        object.__setattr__(self, "classes", tuple(names))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Return image i, (C, H, W) float32 in [-1, 1], and its label."""
        return self._in_range(self.pixels[i]), int(self.labels[i])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def trainable_classes(self) -> int:
        """Return the number of classes, for a model with classes.

        Raises:
            UserError: a class has no image here, so that no model can learn it.
        """
        counts = self.labels.bincount(minlength=len(self.classes)).tolist()
        absent = [repr(name) for name, count in zip(self.classes, counts, strict=True) if not count]
        if absent:
            raise UserError(
                f"The {self.split} split of {self.name} holds no image of {listed(absent)}, which a model with classes "
                "needs; add images of each class, choose the other classes, or train without classes."
            )
        return len(self.classes)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices`, (B,) int64: (B, C, H, W) float32 in [-1, 1], and labels (B,)."""
        return self._in_range(self.pixels[indices]), self.labels[indices]

    def select(self, classes: str | Sequence[str | int]) -> "Images":
        """Return only the images of some classes, relabelled 0 .. k - 1 in the given order.

        The names may be in any case, as a sequence or as one string with commas: "cat, dog" or [3, 8].

        Raises:
            UserError: no class is given, one is unknown or given twice, or one has no image in this split.
        """
        labels = class_indices(classes, self.classes, self.name)
        for label in labels:
            if label not in self.labels:
                raise UserError(
                    f"The {self.split} files of {self.name} hold no image of class "
                    f"{self.classes[label].lower()!r}; leave that class out or use the full data set."
                )
        old = torch.tensor(labels)
        matches = self.labels[:, None] == old  # (N, k)
        keep = matches.any(dim=1)
        return replace(
            self,
            pixels=self.pixels[keep],
            labels=matches[keep].int().argmax(dim=1),
            conditions=None if self.conditions is None else self.conditions[keep],
            classes=tuple(self.classes[label] for label in old),
        )

    def resized(self, size: Any, crop: str = "centre") -> "Images":
        """Return the set at another size, bicubic with antialiasing, in 256 grey levels or in the type of `values`.

        A set that has this size already is returned unchanged, with its own grey levels.

        Args:
            size: see `checked_size`.
            crop: which part of an image is kept if its aspect differs, see `ddim.data.crop`. A random window depends
                on the index of the image.

        Raises:
            UserError: what `checked_size` refuses.
        """
        size = checked_size(size)
        if self.shape[1:] == size:
            return self
        resized = torch.empty(len(self), self.shape[0], *size, dtype=self.pixels.dtype)
        step = 1 if crop == "random" else 1000  # all in float32 may not fit in memory
        for at in range(0, len(self), step):
            rows = torch.arange(at, min(at + step, len(self)))
            key = f"{at * 0x9E3779B97F4A7C15 % 2**64:016x}"  # multiples of the golden ratio spread evenly
            if self.values is None:
                found = to_uint8(bring(self.batch(rows)[0], size, crop, key))
            else:
                found = self.values.nearest(bring(self.pixels[rows], size, crop, key, self.values.range[0]))
            resized[at : at + step] = found
        return replace(self, pixels=resized, grey_levels=256)

    def _in_range(self, pixels: Tensor) -> Tensor:
        if self.values is not None:
            return self.values.to_unit(pixels)
        return pixels.float() / (cast(int, self.grey_levels) - 1) * 2 - 1


def _vectors(conditions: Tensor, count: int) -> Tensor:
    """Return conditions as (N, D) float32. Raises `UserError` for another shape, and for NaN, the null vector."""
    shape = tuple(conditions.shape)
    if len(shape) != 2 or shape[0] != count or not 1 <= shape[1] <= LONGEST or not conditions.float().isfinite().all():
        raise UserError(
            f"The conditions of Images are {count:,} vectors of 1 to {LONGEST:,} finite numbers, one for each image; "
            f"got {str(conditions.dtype).removeprefix('torch.')} of shape {shape}."
        )
    return conditions.float()


def check_images(images: object) -> None:
    """Raise `UserError` unless `images` are `Images`."""
    if not isinstance(images, Images):
        raise UserError(
            f"Images must be a ddim.data.Images, from ddim.open_images, or from tensors by ddim.data.Images(pixels, "
            f"labels, classes, name); got {type(images).__name__}."
        )


def checked_size(size: Any) -> tuple[int, int]:
    """Return the (height, width) of images in pixels.

    Args:
        size: the side of squares, or (height, width), or text such as "32" or "32x48", height before width.

    Raises:
        UserError: anything else, or a side that is not a whole number from 1 to 1024.
    """
    sides: Any = size
    if isinstance(size, str):
        parts = size.lower().replace("×", "x").split("x")
        sides = [int(part) if part.strip().isascii() and part.strip().isdigit() else part for part in parts]
    sides = list(sides) if isinstance(sides, Sequence) and not isinstance(sides, str) else [sides]
    if len(sides) not in (1, 2) or any(isinstance(n, bool) or not isinstance(n, Integral) for n in sides):
        raise UserError(
            f"The size of images is one whole number of pixels for squares, or a height and a width, e.g. 32x48; got "
            f"{size!r:.40}."
        )
    height, width = int(sides[0]), int(sides[-1])
    for side in (height, width):
        if not 1 <= side <= MOST_PIXELS:
            raise UserError(f"Images cannot be resized to {side} pixels; ask for 1 to {MOST_PIXELS}.")
    return height, width


def class_indices(selected: str | Sequence[str | int], classes: Sequence[str], name: str) -> list[int]:
    """Return the indices of the selected classes, in that order.

    Args:
        selected: names in any case, as a sequence or as one string with commas. In a string, a class whose own name
            has commas is taken before classes that are named between them.
        classes, name: the names of all classes; of the data set, for the error message.

    Raises:
        UserError: no class is given, or one is unknown or given twice.
    """
    if not isinstance(selected, Iterable):
        raise UserError(f'Classes are given as names, e.g. "cat,dog", or as a list; got {selected!r}.')
    names = _split(selected, classes) if isinstance(selected, str) else [str(text).strip() for text in selected]
    exact = {text: label for label, text in enumerate(classes)}
    index = {text.lower(): label for label, text in enumerate(classes)} | exact  # a set may hold "Cat" and "cat"
    available = f"{name} has {', '.join(classes)}"
    if not any(names):
        raise UserError(f"No class was given; {available}.")
    labels: list[int] = []
    for text in names:
        label = index.get(text, index.get(text.lower()))
        if label is None:
            raise UserError(f"There is no class {text.lower()!r}; {available}.")
        if label in labels:
            raise UserError(f"Class {text.lower()!r} was given twice; name each class once.")
        labels.append(label)
    return labels


def _split(text: str, classes: Sequence[str]) -> list[str]:
    """Split a string at its commas, except at those within the name of a class."""
    parts, names = text.split(","), []
    longest, known = 1 + max((name.count(",") for name in classes), default=0), {name.lower() for name in classes}
    while parts:
        joined = (",".join(parts[:length]).strip() for length in range(min(longest, len(parts)), 0, -1))
        name = next((name for name in joined if name.lower() in known), parts[0].strip())
        names.append(name)
        del parts[: 1 + name.count(",")]
    return names


Loader = Callable[[str, str | Path | None, str | None], Images]
"""(split, data_dir, url) -> the images, as in `ddim.data.open_images`."""

Registered = TypeVar("Registered", bound=Loader)
loaders: Registry[Loader] = Registry("data set")


def register(name: str) -> Callable[[Registered], Registered]:
    """Register a loader, so that `open_images`, `ddim train` and recipes know the data set by `name`.

    The loader is called as `(split, data_dir, url)`, see `open_images`, and returns the `Images` of the split.
    """

    def record(loader: Registered) -> Registered:
        loaders[name] = loader
        return loader

    return record
