"""All metrics of features: values, standard errors, and floors.

A floor is the same metric of real images, at equal sample size where possible. No sampler can be expected to beat
it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ddim.evaluate.frechet import Gaussian, frechet, frechet_bootstrap, gaussian
from ddim.evaluate.intervals import Array, Estimate, Range, prediction_interval, standard_error
from ddim.evaluate.kid import between, kid_error, within
from ddim.evaluate.precision_recall import Balls, precision_recall
from ddim.progress import bar

LIMITS = {
    "frechet": Range(0, math.inf),
    "kid": Range(-math.inf, math.inf),
    "precision": Range(0, 1),
    "recall": Range(0, 1),
    "density": Range(0, math.inf),
    "coverage": Range(0, 1),
}
"""The metrics of features and their possible values."""
FEWER = "; fewer images have larger distances"


class Reference:
    """Real images, (M, F), that samples are compared with, and statistics of them that are computed once.

    Precision, recall, density and coverage use min(N, M) images of both sets, chosen by `seed`, for N = `count`
    samples.
    """

    def __init__(self, features: Array, count: int, seed: int) -> None:
        self.features, self.count, self.seed = features, count, seed
        self.equal = min(count, len(features))
        self.balls = Balls(subset(features, self.equal, seed))

    @cached_property
    def gaussian(self) -> Gaussian:
        """For the Fréchet distance."""
        return gaussian(self.features)

    @cached_property
    def within(self) -> float:
        """For KID."""
        return float(within(self.features, np.ones((len(self.features), 1)))[0])

    def values(self, x: Array) -> dict[str, float]:
        """Return the metrics of samples with the features x, (N, F)."""
        return self._distances(x) | {name: one.value for name, one in self._precision_recall(x).items()}

    def estimates(self, x: Array, resamples: int) -> dict[str, Estimate]:
        """Return the metrics with standard errors: of distances by bootstrap, of the others by formula."""
        y, seed = self.features, self.seed
        bootstrap = bar(frechet_bootstrap(x, y, resamples, seed), desc="interval", total=resamples, unit="resample")
        errors = {"frechet": standard_error(*np.array(list(bootstrap)).T), "kid": kid_error(x, y, resamples, seed)}
        distances = {name: Estimate(value, errors[name]) for name, value in self._distances(x).items()}
        return distances | self._precision_recall(x)

    def _distances(self, x: Array) -> dict[str, float]:
        once = np.ones((len(x), 1))
        both = between(x, self.features, once, np.ones((len(self.features), 1)))
        kid = float((within(x, once) - 2 * both)[0]) + self.within
        return {"frechet": frechet(gaussian(x), self.gaussian), "kid": kid}

    def _precision_recall(self, x: Array) -> dict[str, Estimate]:
        return precision_recall(subset(x, self.equal, self.seed), self.balls)._asdict()


def subset(features: Array, count: int, seed: int) -> Array:
    """Return `count` random rows in their order, or all rows if there are no more."""
    if count >= len(features):
        return features
    return features[np.sort(np.random.default_rng(seed).permutation(len(features))[:count])]


@dataclass(frozen=True)
class Floor:
    """The metrics of several draws of real images."""

    draws: list[dict[str, float]]
    count: int  # images in each draw, and in the reference of each draw
    reference_count: int
    part: float  # share of the pool that each draw takes; 0 if each draw is a new split of the reference
    about: str  # how the images are drawn

    def interval(self, name: str) -> tuple[float, Range]:
        """Return the mean of a metric over the draws, and the interval in which 95% of draws lie."""
        return prediction_interval([draw[name] for draw in self.draws], LIMITS[name], self.part)


def largest_draw(available: int) -> int:
    """Return how many of the available images a draw may take; draws that share more are too similar."""
    return 2 * available // 3


def floor_of_others(reference: Reference, pool: Array, count: int, draws: int) -> Floor:
    """Return the floor of at least two `draws` of `count` images from a pool, (P, F), not in the reference."""
    about = f"{draws} draws of {count:,} other images against the same {len(reference.features):,}"
    about += FEWER if count < reference.count else ""
    values = [reference.values(pool[order[:count]]) for order in _orders(reference.seed, draws, len(pool))]
    return Floor(values, count, len(reference.features), count / len(pool), about)


def floor_of_splits(reference: Reference, count: int, draws: int) -> Floor:
    """Return the floor of splits of the reference: `count` of its images against the rest of them."""
    rest = len(reference.features) - count
    about = f"{draws} splits of the reference, {count:,} against {rest:,}, as there are too few others{FEWER}"
    values = []
    for order in _orders(reference.seed, draws, len(reference.features)):
        part = Reference(reference.features[order[count:]], count, reference.seed)
        values.append(part.values(reference.features[order[:count]]))
    return Floor(values, count, rest, 0.0, about)


def _orders(seed: int, draws: int, count: int) -> Iterator[NDArray[np.int64]]:
    for draw in bar(range(draws), desc="real images", unit="draw"):
        yield np.random.default_rng([seed, 2, draw]).permutation(count)
