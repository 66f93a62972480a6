"""All metrics of features: values, standard errors, and floors.

A floor is the same metric of real images, at equal sample size where possible. No sampler can be expected to beat
it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ddim.evaluate.frechet import Gaussian, frechet, gaussian
from ddim.evaluate.intervals import Estimate, Range, bootstrap_counts, prediction_interval
from ddim.evaluate.kid import between, within
from ddim.evaluate.precision_recall import Balls, precision_recall
from ddim.progress import bar

Array = NDArray[np.float64]
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
    """Real images that samples are compared with, and statistics of them that are computed once.

    Args:
        features: (M, F).
        count: N, the number of samples; precision, recall, density and coverage use min(N, M) of both.
        seed: of the choice of these images.
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
        bootstrap = bar(
            _frechet_bootstrap(x, y, resamples, seed), desc="interval", total=resamples, unit="resample"
        )
        errors = {"frechet": _frechet_error(bootstrap), "kid": kid_error(x, y, resamples, seed)}
        distances = {name: Estimate(value, errors[name]) for name, value in self._distances(x).items()}
        return distances | self._precision_recall(x)

    def _distances(self, x: Array) -> dict[str, float]:
        once = np.ones((len(x), 1))
        both = between(x, self.features, once, np.ones((len(self.features), 1)))
        kid = float((within(x, once) - 2 * both)[0]) + self.within
        return {"frechet": frechet(gaussian(x), self.gaussian), "kid": kid}

    def _precision_recall(self, x: Array) -> dict[str, Estimate]:
        return precision_recall(subset(x, self.equal, self.seed), self.balls)._asdict()


def frechet_error(x: Array, y: Array, resamples: int, seed: int) -> float:
    """Return the standard error of the Fréchet distance of (N, F) and (M, F), by resampling both sets."""
    return _frechet_error(_frechet_bootstrap(x, y, resamples, seed))


def _frechet_bootstrap(x: Array, y: Array, resamples: int, seed: int) -> Iterator[tuple[float, float, float]]:
    """Of each resample: the distance of both sets, and of each set to the one that it is drawn from."""
    original_x, original_y = gaussian(x), gaussian(y)
    for times_x, times_y in zip(*(times.T for times in _bootstrap(x, y, resamples, seed)), strict=True):
        a, b = gaussian(x, times_x), gaussian(y, times_y)
        yield frechet(a, b), frechet(a, original_x), frechet(b, original_y)


def _frechet_error(bootstrap: Iterator[tuple[float, float, float]]) -> float:
    return standard_error(*np.array(list(bootstrap)).T)


def frechet_excess(x: Array, base: Array, y: Array, resamples: int, seed: int) -> Estimate:
    """Return by how much the Fréchet distance of x to y exceeds that of `base`, with its standard error.

    Image i of x and image i of `base` come from the same noise, so they are resampled together: the noise that both
    distances share cancels.

    Args:
        x, base: (N, F), paired row by row.
        y: (M, F).
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.
    """
    excesses = []
    for times_x, times_y in zip(*(times.T for times in _bootstrap(x, y, resamples, seed)), strict=True):
        real = gaussian(y, times_y)
        excesses.append(frechet(gaussian(x, times_x), real) - frechet(gaussian(base, times_x), real))
    real = gaussian(y)
    value = frechet(gaussian(x), real) - frechet(gaussian(base), real)
    return Estimate(value, float(np.std(excesses, ddof=1)))


def kid_error(x: Array, y: Array, resamples: int, seed: int) -> float:
    """Return the standard error of the KID of (N, F) and (M, F), by resampling both sets."""
    tx, ty = (times.astype(np.float64) for times in _bootstrap(x, y, resamples, seed))
    a, b = within(x, tx), within(y, ty)  # the terms of the original sets are constant
    to_x, to_y = (between(one, one, times, np.ones_like(times)) for one, times in ((x, tx), (y, ty)))
    return standard_error(a + b - 2 * between(x, y, tx, ty), a - 2 * to_x, b - 2 * to_y)


def _bootstrap(x: Array, y: Array, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image of x, (N, R), and of y, (M, R), is drawn in each resample."""
    return (bootstrap_counts(len(one), resamples, (seed, i)) for i, one in enumerate((x, y)))


def standard_error(both: Array, x: Array, y: Array) -> float:
    """Return the standard error of a squared distance, corrected for the noise that resampling adds.

    With d the difference of two distributions and S the covariance of the sampling noise, the distance of two sets
    has the variance 4 d'Sd + 2 tr S^2. Resampling adds the noise once more: the distance of two resampled sets has
    4 d'Sd + 6 tr S^2, and that of resampled sets to their originals 2 tr S^2. On MNIST with d = 0 the result was
    1.1 to 1.3 times the standard deviation over new draws; uncorrected, 1.5 to 1.8 times.

    Args:
        both: (R,) distances of the resampled sets from each other.
        x, y: (R,) distances of each resampled set from its original.
    """
    chance = (x.std(ddof=1) + y.std(ddof=1)) ** 2
    return math.sqrt(max(both.var(ddof=1) - 2 * chance, chance))


def subset(features: Array, count: int, seed: int) -> Array:
    """Return `count` random rows in their order, or all rows if there are no more."""
    if count >= len(features):
        return features
    return features[np.sort(np.random.default_rng(seed).permutation(len(features))[:count])]


@dataclass(frozen=True)
class Floor:
    """The metrics of several draws of real images.

    Attributes:
        draws: the metrics of each draw.
        count, reference_count: images in each draw, and in the reference of each draw.
        part: the share of the pool that each draw takes; 0 if each draw is a new split of the reference.
        about: how the images are drawn, as text.
    """

    draws: list[dict[str, float]]
    count: int
    reference_count: int
    part: float
    about: str

    def interval(self, name: str) -> tuple[float, Range]:
        """Return the mean of a metric over the draws, and the interval in which 95% of draws lie."""
        return prediction_interval([draw[name] for draw in self.draws], LIMITS[name], self.part)


def largest_draw(available: int) -> int:
    """Return how many of the available images a draw may take; draws that share more are too similar."""
    return 2 * available // 3


def floor_of_others(reference: Reference, pool: Array, count: int, draws: int) -> Floor:
    """Return the floor of real images that are not in the reference.

    Args:
        reference: what they are compared with.
        pool: (P, F) features of these images, P above `count`.
        count: images in a draw.
        draws: number of draws, at least two.
    """
    about = f"{draws} draws of {count:,} other images against the same {len(reference.features):,}"
    about += FEWER if count < reference.count else ""

    def values(draw: int) -> dict[str, float]:
        return reference.values(pool[_order(reference.seed, draw, len(pool))[:count]])

    return Floor(_each(draws, values), count, len(reference.features), count / len(pool), about)


def floor_of_splits(reference: Reference, count: int, draws: int) -> Floor:
    """Return the floor of splits of the reference: `count` of its images against the rest of them."""
    rest = len(reference.features) - count
    about = f"{draws} splits of the reference, {count:,} against {rest:,}, as there are no others{FEWER}"

    def values(draw: int) -> dict[str, float]:
        order = _order(reference.seed, draw, len(reference.features))
        part = Reference(reference.features[order[count:]], count, reference.seed)
        return part.values(reference.features[order[:count]])

    return Floor(_each(draws, values), count, rest, 0.0, about)


def _order(seed: int, draw: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 2, draw]).permutation(count)


def _each(draws: int, values: Callable[[int], dict[str, float]]) -> list[dict[str, float]]:
    return [values(draw) for draw in bar(range(draws), desc="real images", unit="draw")]
