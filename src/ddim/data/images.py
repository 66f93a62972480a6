"""A set of small images: whole grey levels in memory, numbers in [-1, 1] to whoever asks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from ddim.errors import UserError


@dataclass(frozen=True, eq=False, repr=False)
class Images(Dataset[tuple[Tensor, int]]):
    """Labelled images, all of one shape.

    Grey level v is the number 2 v / (grey_levels - 1) - 1: black is exactly -1 and white exactly 1.

    Args:
        pixels: (N, C, H, W) uint8, grey levels 0 .. grey_levels - 1.
        labels: (N,) int64, indices into `classes`.
        classes: the name of each class.
        name: what the set is called, e.g. "mnist".
        split: "train" or "test".
        grey_levels: how many values a pixel can take; a likelihood in bits is counted with it.
        mirror: whether an image mirrored left to right could be one of the set: an aeroplane, not a 3.
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
        """Image i, (C, H, W) float32 in [-1, 1], and its label."""
        return self._in_range(self.pixels[i]), int(self.labels[i])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images at `indices`, (B,) int64: (B, C, H, W) float32 in [-1, 1], and labels (B,)."""
        return self._in_range(self.pixels[indices]), self.labels[indices]

    def select(self, classes: str | Sequence[str | int]) -> "Images":
        """Only the images of some classes, relabelled 0 .. k - 1 in the order asked.

        Args:
            classes: names in any case, as a sequence or as one string with commas: "cat, dog" or [3, 8].

        Raises:
            UserError: no class is asked for, one is unknown or asked for twice, or one has no image here.
        """
        wanted = chosen(classes, self.classes, self.name)
        for label in wanted:
            if label not in self.labels:
                raise UserError(
                    f"The {self.split} files of {self.name} hold no image of class "
                    f"{self.classes[label].lower()!r}; leave that class out or use the full data set."
                )
        old = torch.tensor(wanted)
        matches = self.labels[:, None] == old  # (N, k)
        keep = matches.any(dim=1)
        return replace(
            self,
            pixels=self.pixels[keep],
            labels=matches[keep].int().argmax(dim=1),
            classes=tuple(self.classes[label] for label in old),
        )

    def resized(self, size: int) -> "Images":
        """The set at size x size pixels, bicubic with antialiasing, in 256 grey levels.

        A set that has that size already is returned as it is, with its own grey levels.

        Raises:
            UserError: a size below 1 or above 1024.
        """
        if not 1 <= size <= 1024:
            raise UserError(f"Images cannot be resized to {size} pixels; ask for 1 to 1024.")
        if self.shape[1:] == (size, size):
            return self
        resized = torch.empty(len(self), self.shape[0], size, size, dtype=torch.uint8)
        for some in torch.arange(len(self)).chunk(len(self) // 1000 + 1):  # all in float32 may not fit in memory
            images, _ = self.batch(some)
            resized[some] = to_uint8(interpolate(images, (size, size), mode="bicubic", antialias=True))
        return replace(self, pixels=resized, grey_levels=256)

    def _in_range(self, pixels: Tensor) -> Tensor:
        return pixels.float() / (self.grey_levels - 1) * 2 - 1


def chosen(asked: str | Sequence[str | int], classes: Sequence[str], name: str) -> list[int]:
    """The indices of the classes that are asked for, in that order.

    Args:
        asked: names in any case, as a sequence or as one string with commas.
        classes: those there are.
        name: of the data set, for the error message.

    Raises:
        UserError: no class is asked for, one is unknown or asked for twice.
    """
    wanted = [one.strip() for one in (asked.split(",") if isinstance(asked, str) else map(str, asked))]
    exact = {one: label for label, one in enumerate(classes)}
    index = {one.lower(): label for label, one in enumerate(classes)} | exact  # "Cat" and "cat" may both be there
    there_are = f"{name} has {', '.join(classes)}"
    if not any(wanted):
        raise UserError(f"No class was asked for; {there_are}.")
    labels: list[int] = []
    for one in wanted:
        label = index.get(one, index.get(one.lower()))
        if label is None:
            raise UserError(f"There is no class {one.lower()!r}; {there_are}.")
        if label in labels:
            raise UserError(f"Class {one.lower()!r} was asked for twice; name each class once.")
        labels.append(label)
    return labels


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1], any shape, as the nearest of 256 grey levels; what lies outside is clamped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
