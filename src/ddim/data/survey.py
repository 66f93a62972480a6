"""What a folder holds, in numbers, and what training would make of it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import torch
from torch import Tensor

from ddim.data.build import Fact, stored
from ddim.data.catalogue import Catalogue


@dataclass(frozen=True)
class Survey:
    """Facts about the images of one catalogue.

    Args:
        name: of the set.
        classes: the name of each class.
        facts: of each readable image, in the order of the pixels.
        skipped: (file, reason) of the others.
        ignored: suffix -> number of files that never were images.
        pixels: (N, C, size, size) uint8, what training sees.
    """

    name: str
    classes: tuple[str, ...]
    facts: Sequence[Fact]
    skipped: Sequence[tuple[str, str]]
    ignored: Counter[str]
    pixels: Tensor

    @property
    def size(self) -> int:
        """Pixels a side, after resizing."""
        return int(self.pixels.shape[-1])

    @cached_property
    def counts(self) -> list[tuple[str, int, int]]:
        """(class, images to train on, images held out) for each class."""
        seen = Counter((fact.label, fact.split) for fact in self.facts)
        return [(name, seen[label, "train"], seen[label, "test"]) for label, name in enumerate(self.classes)]

    @cached_property
    def kinds(self) -> list[tuple[str, int]]:
        """Format and colour mode of the files, most frequent first."""
        return Counter(f"{fact.format} {fact.mode}" for fact in self.facts).most_common()

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(width, height) of the smallest image by area, of the middle (each side on its own), of the largest."""
        by_area = sorted(((fact.width, fact.height) for fact in self.facts), key=lambda one: one[0] * one[1])
        middle = (round(median(one[0] for one in by_area)), round(median(one[1] for one in by_area)))
        return by_area[0], middle, by_area[-1]

    @cached_property
    def lost(self) -> float:
        """Share of all images' area that lies outside of the central squares, 0 to 1, averaged over images."""
        kept = [min(fact.width, fact.height) / max(fact.width, fact.height) for fact in self.facts]
        return 1 - sum(kept) / len(kept)

    @cached_property
    def enlarged(self) -> int:
        """How many images are smaller than what they are resized to."""
        return sum(min(fact.width, fact.height) < self.size for fact in self.facts)

    @cached_property
    def copies(self) -> list[list[str]]:
        """Groups of files that are the same byte for byte."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for fact in self.facts:
            groups[fact.digest].append(fact.name)
        return [sorted(group) for group in groups.values() if len(group) > 1]

    @cached_property
    def leaked(self) -> int:
        """How many images to test on are, byte for byte, among those to train on."""
        trained = {fact.digest for fact in self.facts if fact.split == "train"}
        return sum(fact.split == "test" and fact.digest in trained for fact in self.facts)

    def some(self, count: int = 64) -> Tensor:
        """Up to `count` images, spread evenly over the set."""
        return self.pixels[spread(len(self.pixels), count)]


def survey(catalogue: Catalogue, size: int | None = None) -> Survey:
    """Decode every image, into the cache that training will use too, and count.

    Args:
        catalogue: what to look at, from `ddim.data.catalogue`.
        size: as in `open_images`.

    Raises:
        UserError: as `open_images`.
    """
    found = stored(catalogue, size)
    facts = [Fact(*row) for row in found.files()]
    about = found.about
    return Survey(catalogue.name, about.classes, facts, about.skipped, Counter(catalogue.ignored), found.pixels)


def spread(total: int, count: int) -> Tensor:
    """Up to `count` of the indices 0 .. total - 1, at even distances, in order."""
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float64).round().long()
