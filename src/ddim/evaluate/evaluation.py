"""What an evaluation found, as it is kept and shown."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ddim.evaluate.intervals import Figure


@dataclass(frozen=True)
class Evaluation:
    """Every figure, and what it was made of.

    Attributes:
        figures: by name: those of `figures.LIMITS`, and "agreement" where classes were asked for.
        extractor, about, fingerprint: what saw the images.
        dim: F, how many features it sees.
        count, reference_count: of samples and of real images.
        equal: how many of each the neighbour figures took.
        resamples: behind the intervals of frechet and kid.
        floor_count, floor_reference_count: of real images in place of the samples, and against how many.
        floor: how the floors were drawn, in words.
        seed: of the resamplings and draws.
    """

    figures: dict[str, Figure]
    extractor: str
    about: str
    fingerprint: str
    dim: int
    count: int
    reference_count: int
    equal: int
    resamples: int
    floor_count: int
    floor_reference_count: int
    floor: str
    seed: int

    @property
    def floor_is_alike(self) -> bool:
        """Whether it is of as many images, against as many; fewer look further off by themselves."""
        return (self.floor_count, self.floor_reference_count) == (self.count, self.reference_count)

    def at_floor(self, name: str) -> bool:
        """Whether a figure cannot be told from that of real images: of as many, else samples would seem better."""
        one = self.figures[name]
        return self.floor_is_alike and one.floor_low <= one.value <= one.floor_high

    def flat(self) -> dict[str, float]:
        """Plain numbers: "frechet", "frechet_low", ..., "frechet_floor_high", "kid", ..., and the counts."""
        found = {
            name if part == "value" else f"{name}_{part}": number
            for name, figure in self.figures.items()
            for part, number in vars(figure).items()
        }
        counts = ("count", "reference_count", "floor_count")
        return found | {name: float(getattr(self, name)) for name in counts}

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**vars(self), "figures": {name: one.facts() for name, one in self.figures.items()}}

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Evaluation":
        """From such a JSON file."""
        known = {name: facts[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "figures": {name: Figure.read(one) for name, one in facts["figures"].items()}})

    def lines(self) -> Iterator[str]:
        """A table; a figure that real images have too is marked."""
        yield f"{self.count:,} images against {self.reference_count:,} real ones, as {self.extractor} sees them"
        yield f"({self.about})"
        yield f"{'':10}{'value':>9}  {'95% interval':^19}  {'real images':>11}  {'95% of them':^19}".rstrip()
        for name, one in self.figures.items():
            yield (
                f"{name:10}{number(one.value):>9}  {span(one.low, one.high):^19}  {number(one.floor):>11}  "
                f"{span(one.floor_low, one.floor_high):^19}  {'as real images' if self.at_floor(name) else ''}"
            ).rstrip()
        yield f"Real images: {self.floor}."


def number(value: float) -> str:
    """In few characters."""
    if math.isnan(value):
        return "-"
    decimals = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"


def span(low: float, high: float) -> str:
    """From the one to the other."""
    return "-" if math.isnan(low) else f"{number(low)} to {number(high)}"
