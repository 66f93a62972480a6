"""Precision, recall, density and coverage: which images lie in each other's neighbourhoods.

The neighbourhood of an image is a ball up to its k-th nearest other image of its own set. With x the samples and y
the real images:

    precision  share of the x in the ball of any y                  Kynkäänniemi et al., arXiv 1904.06991, Eq. 2
    recall     share of the y in the ball of any x                  likewise
    density    mean number of balls of the y around an x, over k    Naeem et al., arXiv 2002.09797, section 3.2
    coverage   share of the y whose ball contains any x             likewise

k = 3 for the first two and 5 for the last two, as published. All four depend on the number of real images, recall
and coverage on the number of samples too: compare equal numbers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddim.evaluate.intervals import Array, Estimate
from ddim.evaluate.kid import chunks

RECALL_K, COVERAGE_K = 3, 5
TIE = 1e-9  # of the mean squared length: closer than rounding can tell apart


class PrecisionRecall(NamedTuple):
    """The four metrics with their standard errors."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


class Balls:
    """Real images, (M, F) features of more than five, and the squared radii of their balls."""

    def __init__(self, features: Array) -> None:
        self.centre = features.mean(0)  # distances stay the same, and rounding is least around 0
        self.points = features - self.centre
        self.tie = TIE * np.square(self.points).sum(1).mean()
        self.recall_radii, self.coverage_radii = squared_radii(self.points, RECALL_K, COVERAGE_K) + self.tie


def precision_recall(samples: Array, real: Balls) -> PrecisionRecall:
    """Return the four metrics of samples, (N, F) features of more than three images."""
    x, y = samples - real.centre, real.points
    (radii,) = squared_radii(x, RECALL_K) + real.tie
    in_real, in_samples, in_wide = (Incidence(len(x), len(y)) for _ in range(3))
    for rows in chunks(len(x), len(y)):
        distances = squared_distances(x[rows], y)
        in_real.add(rows, distances <= real.recall_radii)
        in_samples.add(rows, distances <= radii[rows, None])
        in_wide.add(rows, distances <= real.coverage_radii)
    return PrecisionRecall(
        in_real.row_share(), in_samples.column_share(), in_wide.density(COVERAGE_K), in_wide.column_share()
    )


def squared_radii(points: Array, *ks: int) -> Array:
    """Return the squared distance of each point, of (N, F), to its k-th nearest other, for each k: (len(ks), N)."""
    radii = np.empty((len(ks), len(points)))
    for rows in chunks(len(points), len(points)):
        distances = squared_distances(points[rows], points)
        np.fill_diagonal(distances[:, rows], np.inf)  # a point is not its own neighbour
        places = [k - 1 for k in ks]
        radii[:, rows] = np.partition(distances, places, axis=1)[:, places].T
    return radii


def squared_distances(x: Array, y: Array) -> Array:
    """Return |x - y|^2 for each pair of (N, F) and (M, F): (N, M)."""
    distances: Array = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return distances.clip(0)


class Incidence:
    """Counts of an N x M incidence matrix, added up in blocks of rows."""

    def __init__(self, rows: int, columns: int) -> None:
        self.row_counts, self.column_counts = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
        self.row_partner, self.column_partner = np.zeros(rows, np.int64), np.zeros(columns, np.int64)

    def add(self, rows: slice, incident: NDArray[np.bool_]) -> None:
        """Add a block of rows; `incident` is (rows, M)."""
        self.row_counts[rows] = incident.sum(1)
        self.row_partner[rows] = incident.argmax(1)
        self.column_counts += incident.sum(0)
        self.column_partner += np.arange(len(self.row_counts))[rows] @ incident  # used where the count is 1

    def row_share(self) -> Estimate:
        """Return the share of rows with any incidence."""
        return _share(self.row_counts, self.row_partner, len(self.column_counts))

    def column_share(self) -> Estimate:
        """Return the share of columns with any incidence."""
        return _share(self.column_counts, self.column_partner, len(self.row_counts))

    def density(self, k: int) -> Estimate:
        """Return the mean number of incidences of a row, over k."""
        rows = self.row_counts / k
        columns = self.column_counts * len(self.column_counts) / len(self.row_counts) / k
        variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)
        return Estimate(float(rows.mean()), float(np.sqrt(variance)))


def _share(counts: NDArray[np.int64], partner: NDArray[np.int64], others: int) -> Estimate:
    """Return the share of points with a count above 0; its error is theirs plus that of the others (jackknife).

    Leaving out one of the others loses the points for which it is the only partner; the balls stay as they are. For
    sets of one distribution the error is up to 1.7 times too wide; without the jackknife it would be down to a
    third of the true error for sets that differ.
    """
    n = len(counts)
    incident = int((counts > 0).sum())
    lost = np.bincount(partner[counts == 1], minlength=others) / n
    guess = (incident + 2) / (n + 4)  # Agresti and Coull's, since a share of 0 or 1 is not certain
    variance = guess * (1 - guess) / (n + 4) + (others - 1) * lost.var()
    return Estimate(incident / n, float(np.sqrt(variance)))
