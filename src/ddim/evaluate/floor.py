"""The floor: the figures of real images in place of samples, of as many if there are. None is asked for better."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ddim.evaluate.figures import LIMITS, Reference
from ddim.evaluate.intervals import Range, of_draws

Array = NDArray[np.float64]
FEW = "; so few look further off by themselves"


@dataclass(frozen=True)
class Floor:
    """The figures of several draws of real images.

    Attributes:
        draws: the figures of each.
        count, reference_count: images in each draw, and in what it was held against.
        part: the share of the pool that each draw took, 0 if each is a new split of the whole.
        about: how they were drawn, in words.
    """

    draws: list[dict[str, float]]
    count: int
    reference_count: int
    part: float
    about: str

    def of(self, name: str) -> tuple[float, Range]:
        """The mean of a figure, and where 95 in 100 lie."""
        return of_draws([one[name] for one in self.draws], LIMITS[name], self.part)


def most(there: int) -> int:
    """How many of so many real images a draw takes at most: draws that share more tell little of each other."""
    return 2 * there // 3


def of_others(held: Reference, pool: Array, count: int, draws: int, progress: bool = True) -> Floor:
    """Draws of real images that are not in the reference.

    Args:
        held: the reference.
        pool: (P, F) features of such images, P above `count`.
        count: images in a draw.
        draws: how many, two at least.
        progress: whether to show a bar.
    """
    about = f"{draws} draws of {count:,} others against the same {len(held.features):,}"
    about += FEW if count < held.count else ""
    found = _each(draws, progress, lambda draw: held.values(pool[_order(held.seed, draw, len(pool))[:count]]))
    return Floor(list(found), count, len(held.features), count / len(pool), about)


def of_halves(held: Reference, count: int, draws: int, progress: bool = True) -> Floor:
    """Splits of the reference: `count` of its images against its others. Arguments as for `of_others`."""
    rest = len(held.features) - count
    about = f"{draws} splits of the reference, {count:,} against {rest:,}, as there are no others{FEW}"

    def values(draw: int) -> dict[str, float]:
        order = _order(held.seed, draw, len(held.features))
        return Reference(held.features[order[count:]], count, held.seed).values(held.features[order[:count]])

    return Floor(list(_each(draws, progress, values)), count, rest, 0.0, about)


def _order(seed: int, draw: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 2, draw]).permutation(count)


def _each(draws: int, progress: bool, values: Callable[[int], dict[str, float]]) -> Iterator[dict[str, float]]:
    hidden = None if progress else True  # None: hidden where there is no terminal
    return map(values, tqdm(range(draws), desc="real images", unit="draw", disable=hidden))
