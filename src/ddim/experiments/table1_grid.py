"""The grid of DDIM's Table 1: its cells, their samples, and the Fréchet distance of each."""

import math
import time
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.data import Images
from ddim.evaluate.features import cached_features
from ddim.evaluate.frechet import Array, frechet, frechet_error, frechet_excess, gaussian
from ddim.evaluate.intervals import Range, confidence_interval, prediction_interval
from ddim.evaluate.metrics import LIMITS
from ddim.evaluate.real import Real, labels_for
from ddim.experiments import base
from ddim.experiments.base import NON_EMPTY, NonNegative, Positive, Setup
from ddim.files import read_tensors, tensors_header, write_bytes
from ddim.model_io import fingerprint
from ddim.plots.numbers import Estimate
from ddim.sampling import SamplingOptions

RESAMPLES, DRAWS = 100, 20
SEED = 0
STEPS = (10, 20, 50, 100)  # and T
ETAS = ("0", "0.2", "0.5", "1", "hat")
SPACINGS = ("linear", "quadratic")

Place = tuple[str, int, str]
"""(spacing, S, eta)"""


@dataclass(frozen=True)
class Extent:
    """How much of the grid is measured: `count` images of a cell, or `few` where S = T or S is not in `steps`."""

    count: int
    few: int
    steps: tuple[int, ...] = STEPS
    etas: tuple[str, ...] = ETAS
    spacings: tuple[str, ...] = SPACINGS


EXTENTS = (  # each costs less than the one before
    Extent(1000, 1000),
    Extent(1000, 200),
    Extent(500, 128, (10, 20, 50), ("0", "1", "hat")),
    Extent(500, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(200, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(64, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(64, 64, (10, 20), ("0", "1"), ("linear",)),
)


@dataclass(frozen=True)
class GridCell:
    """One cell of the grid and its number of images."""

    spacing: str
    steps: int
    eta: str
    count: int


def cells(extent: Extent, T: int) -> list[GridCell]:
    """Return the cells of an extent, the cheapest first, so that an interrupt leaves as many as possible.

    S = T uses one spacing, because all spacings are equal there, and only eta = 0 unless the grid is whole: with
    each eta it would cost more than all other cells. Every S of `STEPS` has at least eta = 0, because S = 100
    decides whether a tenth of T = 1,000 steps is as good as all of them.
    """
    short = [S for S in extent.steps if S < T]
    long = [S for S in STEPS if S < T and S not in short]
    etas = extent.etas if extent == EXTENTS[0] else ("0",)
    grid = [
        *(GridCell(s, S, eta, extent.count) for S, s, eta in product(short, extent.spacings, extent.etas)),
        *(GridCell(s, S, "0", extent.few) for S, s in product(long, extent.spacings)),
        *(GridCell("linear", T, eta, extent.few) for eta in etas),
    ]
    return sorted(grid, key=lambda cell: cell.steps * cell.count)


def changes(wanted: Extent, taken: Extent, T: int) -> list[str]:
    """Return what a cut from one extent to another took away, for `cost.cut`."""
    if taken == wanted:
        return []
    parts = [f"from {wanted.count:,} to {taken.count:,} images"] if taken.count != wanted.count else []
    long = [f"{S}" for S in wanted.steps if S not in taken.steps and S < T]
    parts += [f"to {taken.few} images and eta = 0 where S = {' or '.join([*long, 'T'])}"]
    parts += [f"to eta = {', '.join(taken.etas)}"] if taken.etas != wanted.etas else []
    return parts + ([f"to the {taken.spacings[0]} spacing"] if taken.spacings != wanted.spacings else [])


@dataclass(frozen=True)
class Row:
    """The distances of a cell, with 95% intervals: of all its images, and of its first `Result.few` images.

    `excess` is the difference between the latter and the distance of S = T with eta = 0 from the same noise.
    """

    spacing: Literal["linear", "quadratic"]
    steps: Positive
    eta: Literal["0", "0.2", "0.5", "1", "hat"]
    count: Positive
    frechet: NonNegative
    low: NonNegative
    high: NonNegative
    few: NonNegative
    few_low: NonNegative
    few_high: NonNegative
    excess: float
    excess_low: float
    excess_high: float
    seconds_per_image: NonNegative = 0.0

    @property
    def place(self) -> Place:
        """The cell's place in the grid."""
        return (self.spacing, self.steps, self.eta)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """The grid: `count` images of most cells, `few` of the most expensive ones, and the floors of both numbers.

    Fewer images have a larger distance, so only distances of equally many images are compared.
    """

    count: Positive
    few: Positive
    reference_count: Positive
    floor: Estimate
    few_floor: Estimate
    rows: Annotated[tuple[Row, ...], NON_EMPTY]
    about: str
    extractor: str = ""
    seed: int = SEED
    classes: str = ""  # how often each class was drawn; empty for a model without classes, or if unknown
    reference: dict[str, Any] = field(default_factory=dict)  # `ddim.evaluate.real.Real.facts`; empty if unknown

    @property
    def floors(self) -> dict[int, Estimate]:
        """The distances of real images by their number."""
        return {self.few: self.few_floor, self.count: self.floor}

    @property
    def spacings(self) -> list[str]:
        """The measured spacings."""
        return [spacing for spacing in SPACINGS if any(row.spacing == spacing for row in self.rows)]

    @property
    def steps(self) -> list[int]:
        """The measured S, ascending."""
        return sorted({row.steps for row in self.rows})

    @property
    def etas(self) -> list[str]:
        """The measured etas, sigma-hat last."""
        return [eta for eta in ETAS if any(row.eta == eta for row in self.rows)]

    @property
    def counts(self) -> list[int]:
        """The numbers of images for which there are distances to compare, the larger first."""
        full = {row.count == self.count for row in self.rows}
        return [count for count, there in ((self.count, True in full), (self.few, False in full)) if there]

    def at(self, place: Place, count: int) -> Estimate | None:
        """Return the distance of `count` images; None if it was not measured."""
        row = self._rows.get(place)
        if row is None or row.count < count:
            return None
        if row.count == count:
            return Estimate(row.frechet, row.low, row.high)
        return Estimate(row.few, row.few_low, row.few_high) if count == self.few else None

    def excess(self, place: Place) -> Estimate | None:
        """Return by how much the distance exceeds that of S = T with eta = 0 from the same noise."""
        row = self._rows.get(place)
        return None if row is None else Estimate(row.excess, row.excess_low, row.excess_high)

    def pair(self, one: Place, other: Place) -> tuple[Estimate, Estimate, int] | None:
        """Return two distances of equally many images, and that number; None if they were not measured."""
        pairs = ((self.at(one, count), self.at(other, count), count) for count in (self.count, self.few))
        return next(((a, b, count) for a, b, count in pairs if a and b), None)

    @property
    def _rows(self) -> dict[Place, Row]:
        return {row.place: row for row in self.rows}


class Grid:
    """The samples of the cells, each in a file of its own, so that an interrupt costs one cell.

    Their classes are as often as in the reference.
    """

    def __init__(self, setup: Setup, reference: Images) -> None:
        self.model, self.folder = setup.model, setup.folder / "samples" / "table1"
        self.weights, self.reference = fingerprint(setup.folder), reference
        labels, self.classes = labels_for(self.model, reference, 1)
        self.shares = "" if labels is None else str(reference.labels.bincount().tolist())  # of files with such labels

    def calls(self, cell: GridCell) -> int:
        """Return the network calls on single images that a cell still takes."""
        return 0 if self._seconds(cell) is not None else cell.steps * cell.count

    def sample(self, cell: GridCell) -> tuple[Tensor, float]:
        """Return the images of a cell, (N, C, H, W) uint8, from its file or sampled, and the seconds per image."""
        if (seconds := self._seconds(cell)) is not None:
            return read_tensors(self._path(cell))["images"][: cell.count], seconds
        eta = cell.eta if cell.eta == "hat" else float(cell.eta)
        options: SamplingOptions = {"steps": cell.steps, "sampler": "ddim", "eta": eta, "spacing": cell.spacing}
        began = time.perf_counter()
        labels, _ = labels_for(self.model, self.reference, cell.count)
        images = self.model.sample(cell.count, labels=labels, seed=SEED, pixels=True, **options)
        seconds = (time.perf_counter() - began) / cell.count
        about = {"weights": self.weights, "count": str(cell.count), "seconds": str(seconds), "shares": self.shares}
        write_bytes(self._path(cell), to_bytes({"images": images}, metadata=about))
        return images, seconds

    def _seconds(self, cell: GridCell) -> float | None:
        """Return the seconds per image in a cell's file; None if its file has too few, or other weights or classes."""
        with suppress(OSError, SafetensorError):  # missing or damaged
            about = tensors_header(self._path(cell)).metadata
            same = about["weights"] == self.weights and about.get("shares", "") == self.shares
            if same and int(about["count"]) >= cell.count:
                return float(about["seconds"])
        return None

    def _path(self, cell: GridCell) -> Path:
        return self.folder / f"{cell.spacing}-{cell.steps}-{cell.eta}.safetensors"


class Score:
    """Fréchet distances to real images; the floor is drawn from the other split if it has enough."""

    def __init__(self, real: Real) -> None:
        self.real, self.extractor = real, real.extractor
        self.reference = cached_features(self.extractor, real.reference)
        self.pool = self.reference if real.pool is None else cached_features(self.extractor, real.pool)
        self.gaussian = gaussian(self.reference)

    def distance(self, x: Array) -> Estimate:
        """Return the distance of images with the features (N, F)."""
        value = frechet(gaussian(x), self.gaussian)
        error = frechet_error(x, self.reference, RESAMPLES, SEED)
        return Estimate(value, *confidence_interval(value, error, LIMITS["frechet"]))

    def excess(self, x: Array, base: Array) -> Estimate:
        """Return by how much the distance of images exceeds that of others from the same noise."""
        value, error = frechet_excess(x, base, self.reference, RESAMPLES, SEED)
        return Estimate(value, *confidence_interval(value, error, Range(-math.inf, math.inf)))

    def floor(self, count: int) -> Estimate:
        """Return the distance of `count` real images, or of fewer if there are too few, see `Real.draw`."""
        size, distances = min(count, self.real.draw), []
        for one in range(DRAWS):
            order = np.random.default_rng([SEED, one]).permutation(len(self.pool))
            rest = gaussian(self.pool[order[size:]]) if self.real.pool is None else self.gaussian
            distances.append(frechet(gaussian(self.pool[order[:size]]), rest))
        part = 0.0 if self.real.pool is None else size / len(self.pool)
        value, ends = prediction_interval(distances, LIMITS["frechet"], part)
        return Estimate(value, *ends)

    def row(self, cell: GridCell, seconds: float, x: Array, whole: Array) -> Row:
        """Return the distances of a cell by its features x, (N, F), and those of S = T and eta = 0, (few, F)."""
        few, distance = x[: len(whole)], self.distance(x)
        of_few = distance if len(few) == len(x) else self.distance(few)
        excess = self.excess(few, whole)
        fields: list[Any] = [*astuple(cell), *distance.ends, *of_few.ends, *excess.ends, seconds]
        return Row(*fields)
