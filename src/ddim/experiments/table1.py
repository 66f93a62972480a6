"""The grid of the DDIM paper's Table 1: the Fréchet distance for each S and eta, on both of its ladders."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor
from tqdm import tqdm

from ddim.data import Images, to_uint8
from ddim.denoiser import Denoiser
from ddim.evaluate.extractors import choose
from ddim.evaluate.features import cached_features, features
from ddim.evaluate.frechet import Array, frechet, frechet_error, frechet_excess, gaussian
from ddim.evaluate.intervals import Range, confidence_interval, prediction_interval
from ddim.evaluate.metrics import LIMITS, largest_draw
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup
from ddim.files import write_bytes
from ddim.model_io import fingerprint
from ddim.progress import hidden

RESAMPLES, DRAWS = 100, 20
SEED = 0
STEPS = (10, 20, 50, 100)  # and T
ETAS = ("0", "0.2", "0.5", "1", "hat")
LADDERS = ("linear", "quadratic")


@dataclass(frozen=True)
class Extent:
    """How much of the grid: so many images, but `few` where S = T or an S of `STEPS` that is not among its own.

    Each extent costs less than the one before.
    """

    count: int
    few: int
    steps: tuple[int, ...] = STEPS
    etas: tuple[str, ...] = ETAS
    ladders: tuple[str, ...] = LADDERS


EXTENTS = (
    Extent(1000, 1000),
    Extent(1000, 200),
    Extent(500, 128, (10, 20, 50), ("0", "1", "hat")),
    Extent(500, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(200, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(64, 64, (10, 20, 50), ("0", "1", "hat"), ("linear",)),
    Extent(64, 64, (10, 20), ("0", "1"), ("linear",)),
)


@dataclass(frozen=True)
class Cell:
    """One place of the grid."""

    spacing: str
    steps: int
    eta: str
    count: int


def cells(extent: Extent, T: int) -> list[Cell]:
    """The cells of an extent, cheapest first, so that an interrupt leaves the most.

    S = T is drawn on one ladder alone, as all ladders are the same there, and with eta = 0 alone unless the grid is
    whole: with each eta it would cost more than all the rest. No S of `STEPS` is left out altogether: whether a
    tenth of T = 1,000 steps is as good as all of them, S = 100 must tell.
    """
    short = [S for S in extent.steps if S < T]
    long = [S for S in STEPS if S < T and S not in short]
    etas = extent.etas if extent == EXTENTS[0] else ("0",)
    grid = [
        *(Cell(spacing, S, eta, extent.count) for S in short for spacing in extent.ladders for eta in extent.etas),
        *(Cell(spacing, S, "0", extent.few) for S in long for spacing in extent.ladders),
        *(Cell("linear", T, eta, extent.few) for eta in etas),
    ]
    return sorted(grid, key=lambda cell: cell.steps * cell.count)


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the whole grid takes."""
    return float(sum(cell.steps * cell.count for cell in cells(EXTENTS[0], model.schedule.T)))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw the cells that are not in `samples/table1/` yet, and score all of them against the held-out images.

    Args:
        setup: whose model is sampled, on which images it learnt and which were held out.
        seconds: about how long it may take; it cuts S, eta, the ladders and the number of images.

    Returns:
        For each cell the distance of all its images and that of its first `few`, and by how much the latter exceeds
        that of the images that S = T and eta = 0 make of the same noise, all with 95% intervals; the distances of
        as many real images; the extractor; under "cut" what the limit took away.
    """
    model, T = setup.model, setup.model.schedule.T
    drawing = Drawing(setup)
    call = batch_seconds(model, 64, seconds) / 64
    extent = affordable(EXTENTS, lambda one: call * sum(map(drawing.calls, cells(one, T))), seconds)
    grid = cells(extent, T)
    drawn: dict[Cell, tuple[Tensor, float]] = {}
    with tqdm(total=sum(map(drawing.calls, grid)), desc="table 1", unit="call", disable=None) as bar:
        for cell in grid:
            bar.set_postfix_str(f"{cell.spacing}, S = {cell.steps}, eta = {cell.eta}")
            cost = drawing.calls(cell)
            drawn[cell] = drawing.drawn(cell)
            bar.update(cost)
    score = Score(setup.learnt, setup.held_out)
    with hidden():
        seen = {cell: features(score.eye, images) for cell, (images, _) in drawn.items()}
    whole = next(x for cell, x in seen.items() if cell.steps == T and cell.eta == "0")[: extent.few]
    return {
        "extractor": score.eye.name,
        "about": score.eye.about,
        "seed": SEED,
        "count": extent.count,
        "few": extent.few,
        "reference_count": len(score.reference),
        "floor": score.floor(extent.count),
        "few_floor": score.floor(extent.few),
        "rows": [_row(cell, drawn[cell][1], x, whole, score) for cell, x in seen.items()],
        "cut": cut(seconds, _changes(EXTENTS[0], extent, T)),
    }


class Drawing:
    """The images of the cells, kept one file each, so that an interrupt costs one cell.

    Args:
        setup: whose model is sampled.
    """

    def __init__(self, setup: Setup) -> None:
        self.model, self.folder = setup.model, setup.folder / "samples" / "table1"
        self.weights = fingerprint(setup.folder)

    def calls(self, cell: Cell) -> int:
        """Network calls that a cell still takes, over all its images."""
        return 0 if self._seconds(cell) is not None else cell.steps * cell.count

    def drawn(self, cell: Cell) -> tuple[Tensor, float]:
        """The images of a cell, (N, C, H, W) uint8, drawn now if they are not there, and the seconds of each."""
        if (seconds := self._seconds(cell)) is not None:
            return load_file(self._path(cell))["images"][: cell.count], seconds
        eta = cell.eta if cell.eta == "hat" else float(cell.eta)
        began = time.perf_counter()
        images = to_uint8(
            self.model.sample(
                cell.count, steps=cell.steps, sampler="ddim", eta=eta, spacing=cell.spacing, seed=SEED
            )
        )
        seconds = (time.perf_counter() - began) / cell.count
        about = {"weights": self.weights, "count": str(cell.count), "seconds": str(seconds)}
        write_bytes(self._path(cell), to_bytes({"images": images}, metadata=about))
        return images, seconds

    def _seconds(self, cell: Cell) -> float | None:
        """What each image of a cell took, if its file holds as many by these weights; its images are not read."""
        try:
            with safe_open(self._path(cell), "pt") as file:
                about = file.metadata()
        except (OSError, SafetensorError):
            return None  # absent or broken: to be made anew
        known = about["weights"] == self.weights and int(about["count"]) >= cell.count
        return float(about["seconds"]) if known else None

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.spacing}-{cell.steps}-{cell.eta}.safetensors"


class Score:
    """Fréchet distances to the held-out images.

    Args:
        train: images that the floor is drawn from.
        test: the reference.
    """

    def __init__(self, train: Images, test: Images) -> None:
        self.eye = choose(test.shape, test.name)
        self.real, self.reference = cached_features(self.eye, train), cached_features(self.eye, test)
        self.gaussian = gaussian(self.reference)

    def __call__(self, x: Array) -> tuple[float, Range]:
        """The distance of images by their features, (N, F), and its 95% interval."""
        value = frechet(gaussian(x), self.gaussian)
        return value, confidence_interval(
            value, frechet_error(x, self.reference, RESAMPLES, SEED), LIMITS["frechet"]
        )

    def excess(self, x: Array, base: Array) -> tuple[float, Range]:
        """By how much the distance of images exceeds that of others from the same noise, and its interval."""
        value, error = frechet_excess(x, base, self.reference, RESAMPLES, SEED)
        return value, confidence_interval(value, error, Range(-math.inf, math.inf))

    def floor(self, count: int) -> dict[str, float]:
        """The mean distance of so many training images, and where 95 in 100 such draws lie.

        Of so many, or of `largest_draw` of them where that is less.
        """
        pool = len(self.real)
        size = min(count, largest_draw(pool))
        draws = (np.random.default_rng([SEED, draw]).permutation(pool)[:size] for draw in range(DRAWS))
        distances = [frechet(gaussian(self.real[rows]), self.gaussian) for rows in draws]
        value, (low, high) = prediction_interval(distances, LIMITS["frechet"], size / pool)
        return {"value": value, "low": low, "high": high}


def _row(cell: Cell, seconds: float, x: Array, whole: Array, score: Score) -> dict[str, Any]:
    few = x[: len(whole)]
    value, (low, high) = score(x)
    few_value, (few_low, few_high) = (value, Range(low, high)) if len(few) == len(x) else score(few)
    excess, (excess_low, excess_high) = score.excess(few, whole)
    return {
        **asdict(cell),
        "frechet": value,
        "low": low,
        "high": high,
        "few": few_value,
        "few_low": few_low,
        "few_high": few_high,
        "excess": excess,
        "excess_low": excess_low,
        "excess_high": excess_high,
        "seconds_per_image": seconds,
    }


def _changes(wanted: Extent, got: Extent, T: int) -> list[str]:
    if got == wanted:
        return []
    changes = [f"from {wanted.count:,} to {got.count:,} images"] if got.count != wanted.count else []
    long = [f"{S}" for S in wanted.steps if S not in got.steps and S < T]
    changes += [f"to {got.few} images and eta = 0 where S = {' or '.join([*long, 'T'])}"]
    changes += [f"to eta = {', '.join(got.etas)}"] if got.etas != wanted.etas else []
    return changes + ([f"to the {got.ladders[0]} ladder"] if got.ladders != wanted.ladders else [])
