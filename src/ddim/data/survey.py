"""Statistics of a folder of images, and of the training images made from it."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ddim.data.build import stored, values_of
from ddim.data.cache import Fact
from ddim.data.catalogue import Catalogue, contrast
from ddim.data.crop import placed
from ddim.pictures import to_uint8
from ddim.values import Values


@dataclass(frozen=True)
class Survey:
    """Statistics of the images of one catalogue."""

    name: str
    classes: tuple[str, ...]
    facts: Sequence[Fact]  # of each readable image, in the order of the pixels
    skipped: Sequence[tuple[str, str]]  # file and reason
    ignored: Counter[str]  # suffix -> number of files that are not images
    pixels: Tensor  # (N, C, H, W), as in training
    splits: str  # a sentence on the folders of the splits, if there are any
    warnings: Sequence[str]  # sentences: folders that look like splits, images without contrast
    values: Values | None = None  # of arrays
    crop: str = "centre"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, after resizing."""
        height, width = self.pixels.shape[2:]
        return height, width

    @cached_property
    def counts(self) -> list[tuple[str, int, int]]:
        """(class, number of training images, number of held-out images) for each class."""
        numbers = Counter((fact.label, fact.split) for fact in self.facts)
        return [(name, numbers[label, "train"], numbers[label, "test"]) for label, name in enumerate(self.classes)]

    @cached_property
    def kinds(self) -> list[tuple[str, int]]:
        """Format and colour mode of the files, most frequent first."""
        return Counter(f"{fact.format} {fact.mode}" for fact in self.facts).most_common()

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(width, height): of the smallest image by area, the median of each side, of the largest image."""
        by_area = sorted(((fact.width, fact.height) for fact in self.facts), key=lambda size: size[0] * size[1])
        middle = (round(median(width for width, _ in by_area)), round(median(height for _, height in by_area)))
        return by_area[0], middle, by_area[-1]

    @cached_property
    def lost(self) -> float:
        """Share of an image's area that is cropped, 0 to 1, averaged over images."""
        parts = [placed((fact.height, fact.width), self.size, self.crop).part for fact in self.facts]
        kept = [math.prod(part) / (fact.width * fact.height) for part, fact in zip(parts, self.facts, strict=True)]
        return 1 - sum(kept) / len(kept)

    @cached_property
    def enlarged(self) -> int:
        """Number of images that are enlarged."""
        where = (placed((fact.height, fact.width), self.size, self.crop) for fact in self.facts)
        return sum(one.part[0] < one.size[0] or one.part[1] < one.size[1] for one in where)

    @cached_property
    def flat(self) -> int:
        """Number of images in which all pixels have one colour."""
        return sum(fact.flat for fact in self.facts)

    @cached_property
    def copies(self) -> list[list[str]]:
        """Groups of files that are the same byte for byte."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for fact in self.facts:
            groups[fact.digest].append(fact.name)
        return [sorted(group) for group in groups.values() if len(group) > 1]

    @cached_property
    def leaked(self) -> int:
        """Number of test images that are also training images, byte for byte."""
        trained = {fact.digest for fact in self.facts if fact.split == "train"}
        return sum(fact.split == "test" and fact.digest in trained for fact in self.facts)

    def preview(self, count: int = 64) -> Tensor:
        """Return up to `count` images, spread evenly over the set, in 256 grey levels."""
        pixels = self.pixels[spread(len(self.pixels), count)]
        return pixels if self.values is None else to_uint8(self.values.to_unit(pixels))


def survey(
    catalogue: Catalogue, size: Any = None, crop: str = "centre", range: tuple[float, float] | None = None
) -> Survey:
    """Decode every image, into the same cache as training, and count; arguments and errors as in `open_images`."""
    images = stored(catalogue, size, crop)
    values = values_of(images, catalogue.name, range)
    poor = contrast(images.levels) if values is None else ""
    return Survey(
        name=catalogue.name,
        classes=images.classes,
        facts=images.files(),
        skipped=images.skipped,
        ignored=Counter(catalogue.ignored),
        pixels=images.pixels,
        splits=catalogue.splits,
        warnings=[sentence for sentence in (catalogue.warning, poor) if sentence],
        values=values,
        crop=crop,
    )


def spread(total: int, count: int) -> Tensor:
    """Return up to `count` of the indices 0 .. total - 1, evenly spaced, in order."""
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float64).round().long()
