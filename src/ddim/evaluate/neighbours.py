"""Precision, recall, density and coverage: who lies within the reach of whom.

An image's ball reaches to its k-th nearest other image of its own set. With x the samples and y the real images:

    precision  share of the x in the ball of any y                  Kynkäänniemi et al., arXiv 1904.06991, Eq. 2
    recall     share of the y in the ball of any x                  likewise
    density    balls of the y that an x lies in, on average, / k    Naeem et al., arXiv 2002.09797, section 3.2
    coverage   share of the y whose ball holds any x                likewise

k = 3 for the first two and 5 for the last two, as published. All depend on how many real images there are, recall
and coverage on how many samples too: compare equal counts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddim.evaluate.intervals import Measured
from ddim.evaluate.kernel import chunks

Array = NDArray[np.float64]
RECALL_K, COVERAGE_K = 3, 5
TIE = 1e-9  # of the mean squared length: closer than rounding can tell apart


class Shares(NamedTuple):
    """The four figures with their standard errors."""

    precision: Measured
    recall: Measured
    density: Measured
    coverage: Measured


class Balls:
    """Real images, and how far the ball of each reaches.

    Args:
        features: (M, F) of more than five images.
    """

    def __init__(self, features: Array) -> None:
        self.centre = features.mean(0)  # distances stay, and rounding is least around 0
        self.points = features - self.centre
        self.tie = TIE * np.square(self.points).sum(1).mean()
        self.near, self.wide = reach(self.points, RECALL_K, COVERAGE_K) + self.tie


def neighbours(samples: Array, real: Balls) -> Shares:
    """The four figures.

    Args:
        samples: (N, F) features, more than three.
        real: to compare with.
    """
    x, y = samples - real.centre, real.points
    (near,) = reach(x, RECALL_K) + real.tie
    precise, recalled, dense = (Tally(len(x), len(y)) for _ in range(3))
    for rows in chunks(len(x), len(y)):
        apart = squared(x[rows], y)
        precise.add(rows, apart <= real.near)
        recalled.add(rows, apart <= near[rows, None])
        dense.add(rows, apart <= real.wide)
    return Shares(
        precise.share_of_rows(), recalled.share_of_columns(), dense.density(COVERAGE_K), dense.share_of_columns()
    )


def reach(points: Array, *ks: int) -> Array:
    """The squared distance of each point, of (N, F), to its k-th nearest other, for each k: (len(ks), N)."""
    found = np.empty((len(ks), len(points)))
    for rows in chunks(len(points), len(points)):
        apart = squared(points[rows], points)
        np.fill_diagonal(apart[:, rows], np.inf)  # not to itself
        places = [k - 1 for k in ks]
        found[:, rows] = np.partition(apart, places, axis=1)[:, places].T
    return found


def squared(x: Array, y: Array) -> Array:
    """|x - y|^2 of each pair of (N, F) and (M, F): (N, M)."""
    apart: Array = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return apart.clip(0)


class Tally:
    """Which of N rows and M columns meet, counted part by part.

    Args:
        rows, columns: N and M.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.of_rows, self.of_columns = np.zeros(rows, np.int64), np.zeros(columns, np.int64)  # whom each meets
        self.one_of_rows, self.one_of_columns = np.zeros(rows, np.int64), np.zeros(columns, np.int64)

    def add(self, rows: slice, meet: NDArray[np.bool_]) -> None:
        """Count what some rows meet; `meet` is (rows, M)."""
        self.of_rows[rows] = meet.sum(1)
        self.one_of_rows[rows] = meet.argmax(1)
        self.of_columns += meet.sum(0)
        self.one_of_columns += np.arange(len(self.of_rows))[rows] @ meet  # the one, where there is one only

    def share_of_rows(self) -> Measured:
        """The share of the rows that meet any column."""
        return _share(self.of_rows, self.one_of_rows, len(self.of_columns))

    def share_of_columns(self) -> Measured:
        """The share of the columns that meet any row."""
        return _share(self.of_columns, self.one_of_columns, len(self.of_rows))

    def density(self, k: int) -> Measured:
        """The mean number of columns that a row meets, over k."""
        rows, columns = self.of_rows / k, self.of_columns * len(self.of_columns) / len(self.of_rows) / k
        variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)
        return Measured(float(rows.mean()), float(np.sqrt(variance)))


def _share(meets: NDArray[np.int64], one: NDArray[np.int64], others: int) -> Measured:
    """The share of points that meet any other; its error is theirs, and by the jackknife that of the others.

    Leaving one of the others out loses the points that meet it alone; the balls are held as they are. For sets that
    are alike that makes it up to 1.7 times too wide; without, it would be down to a third for sets that are not.
    """
    n = len(meets)
    found = int((meets > 0).sum())
    lost = np.bincount(one[meets == 1], minlength=others) / n
    guess = (found + 2) / (n + 4)  # Agresti and Coull's: a share of 0 or 1 is not certain
    variance = guess * (1 - guess) / (n + 4) + (others - 1) * lost.var()
    return Measured(found / n, float(np.sqrt(variance)))
