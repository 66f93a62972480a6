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

from ddim.evaluate.intervals import Share
from ddim.evaluate.kernel import chunks

Array = NDArray[np.float64]
RECALL_K, COVERAGE_K = 3, 5
TIE = 1e-9  # of the mean squared length: closer than rounding can tell apart


class Shares(NamedTuple):
    """The four figures with their standard errors."""

    precision: Share
    recall: Share
    density: Share
    coverage: Share


def neighbours(x: Array, y: Array) -> Shares:
    """The four figures.

    Args:
        x: (N, F) features of samples, more than five.
        y: (M, F) features of real images, more than five.
    """
    centre = y.mean(0)  # distances stay, and rounding is least around 0
    x, y = x - centre, y - centre
    tie = TIE * np.square(y).sum(1).mean()
    reach_x, reach_y, wide_y = reach(x, RECALL_K) + tie, reach(y, RECALL_K) + tie, reach(y, COVERAGE_K) + tie
    precise, dense = Tally(len(x), len(y)), Tally(len(x), len(y))
    recalled = Tally(len(x), len(y))
    for rows in chunks(len(x), len(y)):
        apart = squared(x[rows], y)
        precise.add(rows, apart <= reach_y)
        dense.add(rows, apart <= wide_y)
        recalled.add(rows, apart <= reach_x[rows, None])
    return Shares(
        precise.share_of_rows(),
        recalled.share_of_columns(),
        dense.density(COVERAGE_K),
        dense.share_of_columns(),
    )


def reach(points: Array, k: int) -> Array:
    """The squared distance of each point, of (N, F), to its k-th nearest other: (N,)."""
    found = np.empty(len(points))
    for rows in chunks(len(points), len(points)):
        apart = squared(points[rows], points)
        np.fill_diagonal(apart[:, rows], np.inf)  # not to itself
        found[rows] = np.partition(apart, k - 1, axis=1)[:, k - 1]
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

    def share_of_rows(self) -> Share:
        """The share of the rows that meet any column."""
        return _share(self.of_rows, self.one_of_rows, len(self.of_columns))

    def share_of_columns(self) -> Share:
        """The share of the columns that meet any row."""
        return _share(self.of_columns, self.one_of_columns, len(self.of_rows))

    def density(self, k: int) -> Share:
        """The mean number of columns that a row meets, over k."""
        rows, columns = self.of_rows / k, self.of_columns * len(self.of_columns) / len(self.of_rows) / k
        variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)
        return Share(float(rows.mean()), float(np.sqrt(variance)))


def _share(meets: NDArray[np.int64], one: NDArray[np.int64], others: int) -> Share:
    """The share of points that meet any other; its error is theirs, and by the jackknife that of the others.

    Leaving one of the others out loses the points that meet it alone; the balls are held as they are. For sets that
    are alike that makes it up to 1.7 times too wide; without, it would be down to a third for sets that are not.
    """
    n = len(meets)
    found = int((meets > 0).sum())
    lost = np.bincount(one[meets == 1], minlength=others) / n
    guess = (found + 2) / (n + 4)  # Agresti and Coull's: a share of 0 or 1 is not certain
    variance = guess * (1 - guess) / (n + 4) + (others - 1) * lost.var()
    return Share(found / n, float(np.sqrt(variance)))
