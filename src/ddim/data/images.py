"""A set of small images: 8-bit pixels in memory, float32 in [-1, 1] to its users. And the registry of sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from ddim.errors import UserError
from ddim.registry import Registry


@dataclass(frozen=True, eq=False, repr=False)
class Images(Dataset[tuple[Tensor, int]]):
    """Labelled images, all of one shape.

    Grey level v is the number 2 v / (grey_levels - 1) - 1: black is exactly -1 and white exactly 1.

    Args:
        pixels: (N, C, H, W) uint8, grey levels 0 .. grey_levels - 1.
        labels, classes: (N,) int64, indices into `classes`; the name of each class.
        name, split: the name of the set, e.g. "mnist"; "train" or "test".
        grey_levels: the number of values of a pixel; a likelihood in bits depends on it.
        mirror: whether training may mirror images left to right: airplanes, not digits.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str = "train"
    grey_levels: int = 256
    mirror: bool = False

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
            classes=tuple(self.classes[label] for label in old),
        )

    def resized(self, size: int) -> "Images":
        """Return the set at size x size pixels, bicubic with antialiasing, in 256 grey levels.

        A set that has this size already is returned unchanged, with its own grey levels.

        Raises:
            UserError: a size below 1 or above 1024.
        """
        if not 1 <= size <= 1024:
            raise UserError(f"Images cannot be resized to {size} pixels; ask for 1 to 1024.")
        if self.shape[1:] == (size, size):
            return self
        resized = torch.empty(len(self), self.shape[0], size, size, dtype=torch.uint8)
        for rows in torch.arange(len(self)).chunk(len(self) // 1000 + 1):  # all in float32 may not fit in memory
            images, _ = self.batch(rows)
            resized[rows] = to_uint8(interpolate(images, (size, size), mode="bicubic", antialias=True))
        return replace(self, pixels=resized, grey_levels=256)

    def _in_range(self, pixels: Tensor) -> Tensor:
        return pixels.float() / (self.grey_levels - 1) * 2 - 1


def class_indices(selected: str | Sequence[str | int], classes: Sequence[str], name: str) -> list[int]:
    """Return the indices of the selected classes, in that order.

    Args:
        selected: names in any case, as a sequence or as one string with commas.
        classes, name: the names of all classes; of the data set, for the error message.

    Raises:
        UserError: no class is given, or one is unknown or given twice.
    """
    names = [text.strip() for text in (selected.split(",") if isinstance(selected, str) else map(str, selected))]
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


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1], of any shape, in the nearest of 256 grey levels; values outside are clamped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


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
