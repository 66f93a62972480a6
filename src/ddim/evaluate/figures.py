"""Features against features: every figure, its standard error, and the same figure for real images."""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ddim.evaluate.frechet import Gaussian, frechet, gaussian
from ddim.evaluate.intervals import Measured, Range, resamplings
from ddim.evaluate.kernel import between, within
from ddim.evaluate.neighbours import Balls, neighbours

Array = NDArray[np.float64]
LIMITS = {
    "frechet": Range(0, math.inf),
    "kid": Range(-math.inf, math.inf),
    "precision": Range(0, 1),
    "recall": Range(0, 1),
    "density": Range(0, math.inf),
    "coverage": Range(0, 1),
}
"""The figures, and what each can be."""


class Reference:
    """Real images that samples are held against, and what is computed of them once.

    Args:
        features: (M, F).
        count: N, how many samples there will be; the neighbour figures take min(N, M) of both.
        seed: of that choice.
    """

    def __init__(self, features: Array, count: int, seed: int) -> None:
        self.features, self.count, self.seed = features, count, seed
        self.equal = min(count, len(features))
        self.balls = Balls(some(features, self.equal, seed))

    @cached_property
    def gaussian(self) -> Gaussian:
        """For the Fréchet distance."""
        return gaussian(self.features)

    @cached_property
    def within(self) -> float:
        """For KID."""
        return float(within(self.features, np.ones((len(self.features), 1)))[0])

    def values(self, x: Array) -> dict[str, float]:
        """The figures of samples' features, (N, F)."""
        return self._distances(x) | {name: one.value for name, one in self._shares(x).items()}

    def measured(self, x: Array, resamples: int, progress: bool = True) -> dict[str, Measured]:
        """They and their standard errors: by so many resamplings of both sets, of the shares by formula."""
        errors = {
            "frechet": frechet_error(x, self.features, resamples, self.seed, progress),
            "kid": kid_error(x, self.features, resamples, self.seed),
        }
        return {name: Measured(one, errors[name]) for name, one in self._distances(x).items()} | self._shares(x)

    def _distances(self, x: Array) -> dict[str, float]:
        once = np.ones((len(x), 1))
        both = between(x, self.features, once, np.ones((len(self.features), 1)))
        kid = float((within(x, once) - 2 * both)[0]) + self.within
        return {"frechet": frechet(gaussian(x), self.gaussian), "kid": kid}

    def _shares(self, x: Array) -> dict[str, Measured]:
        return neighbours(some(x, self.equal, self.seed), self.balls)._asdict()


def frechet_error(x: Array, y: Array, resamples: int, seed: int, progress: bool = False) -> float:
    """The standard error of the Fréchet distance of (N, F) and (M, F), by resampling both."""
    pairs = zip(*(times.T for times in _resamplings(x, y, resamples, seed)), strict=True)
    ours, theirs, found = gaussian(x), gaussian(y), []
    hidden = None if progress else True  # None: hidden where there is no terminal
    for times_x, times_y in tqdm(pairs, desc="interval", total=resamples, unit="resampling", disable=hidden):
        a, b = gaussian(x, times_x), gaussian(y, times_y)
        found.append((frechet(a, b), frechet(a, ours), frechet(b, theirs)))
    both, own_x, own_y = np.array(found).T
    return error(both, own_x, own_y)


def frechet_excess(x: Array, base: Array, y: Array, resamples: int, seed: int) -> Measured:
    """By how much the Fréchet distance of x to y is larger than that of `base`, and the standard error of that.

    Image i of both comes from the same noise, so they are resampled together: what chance adds to both falls out.

    Args:
        x, base: (N, F), paired row by row.
        y: (M, F).
        resamples: how many.
        seed: of the resamplings.
    """
    found = []
    for times_x, times_y in zip(*(times.T for times in _resamplings(x, y, resamples, seed)), strict=True):
        real = gaussian(y, times_y)
        found.append(frechet(gaussian(x, times_x), real) - frechet(gaussian(base, times_x), real))
    real = gaussian(y)
    value = frechet(gaussian(x), real) - frechet(gaussian(base), real)
    return Measured(value, float(np.std(found, ddof=1)))


def kid_error(x: Array, y: Array, resamples: int, seed: int) -> float:
    """The standard error of KID, likewise."""
    tx, ty = (times.astype(np.float64) for times in _resamplings(x, y, resamples, seed))
    a, b = within(x, tx), within(y, ty)  # what the sets themselves add does not vary
    ours, theirs = (between(one, one, times, np.ones_like(times)) for one, times in ((x, tx), (y, ty)))
    return error(a + b - 2 * between(x, y, tx, ty), a - 2 * ours, b - 2 * theirs)


def _resamplings(x: Array, y: Array, many: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image of x, (N, R), and of y, (M, R), is drawn in each resampling."""
    return (resamplings(len(one), many, (seed, i)) for i, one in enumerate((x, y)))


def error(both: Array, x: Array, y: Array) -> float:
    """The standard error of a squared distance.

    With d the difference of two distributions and S the covariance of what chance adds to it, the distance of two
    sets has the variance 4 d'Sd + 2 tr S^2. Chance adds once more to resampled sets: theirs has 4 d'Sd + 6 tr S^2,
    and that of resampled sets to their own 2 tr S^2. With MNIST and d = 0 the result was 1.1 to 1.3 times the
    deviation of new draws; uncorrected, 1.5 to 1.8 times.

    Args:
        both: (R,) distances of the resampled sets from each other.
        x, y: (R,) of each from the set that it was drawn from.
    """
    chance = (x.std(ddof=1) + y.std(ddof=1)) ** 2
    return math.sqrt(max(both.var(ddof=1) - 2 * chance, chance))


def some(features: Array, count: int, seed: int) -> Array:
    """So many of them, in their order; all if there are no more."""
    if count >= len(features):
        return features
    return features[np.sort(np.random.default_rng(seed).permutation(len(features))[:count])]
