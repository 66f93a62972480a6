"""The held-out loss as a function of the number of updates, and what more updates would change.

The curve is a power law above a floor, L(n) = a + b n^-c, as losses of networks follow over the length of a training
(Hestness et al., arXiv 1712.00409). For each exponent c, a and b are those of least squares of the relative residuals.
The interval is a profile: it covers what every exponent predicts whose sum of squares an F test does not exclude.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import f, t

Array = NDArray[np.float64]
LEAST = 8  # points, for four unknowns: a, b, c and the noise
SKIPPED = 0.1  # share of the training, at its beginning, that is not fitted
EXPONENTS = np.geomspace(0.03, 4, 60)
MAX_CORRELATION = 0.8  # of neighbouring residuals


class Forecast(NamedTuple):
    """A relative decrease of the loss with its 95% interval."""

    value: float
    low: float
    high: float


class Curve:
    """A power law above a floor, fitted to losses.

    Args:
        steps: (N,) numbers of updates, ascending, above 0; at least `LEAST` of them.
        losses: (N,) the loss after each.
    """

    def __init__(self, steps: Any, losses: Any) -> None:
        self.n, self.losses = np.asarray(steps, float), np.asarray(losses, float)
        squares = [self.line(c).squares for c in EXPONENTS]
        i = int(np.argmin(squares))
        around = EXPONENTS[max(i - 1, 0)], EXPONENTS[min(i + 1, len(EXPONENTS) - 1)]
        found = minimize_scalar(
            lambda c: self.line(c).squares, bounds=around, method="bounded", options={"xatol": 1e-9}
        )
        self.exponent = float(found.x)
        best, free = self.line(self.exponent), len(self.n) - 3
        variance = best.squares / free * _inflation(best.residuals)
        self.error, self.factor = float(np.sqrt(variance)), float(t.ppf(0.975, free))
        self.last = best.a + best.b  # the loss at the last step
        limit = best.squares + variance * float(f.ppf(0.95, 1, free))
        self.exponents = self._end(EXPONENTS[0], limit), self._end(EXPONENTS[-1], limit)

    def line(self, exponent: float) -> "_Line":
        """Return the fit for one exponent, in units of the last step."""
        return _line((self.n / self.n[-1]) ** -exponent, self.losses)

    def decrease(self, factor: float) -> Forecast:
        """Return by how much of its value the loss falls from the last step to `factor` times as many."""
        value = self.line(self.exponent).b * (1 - factor**-self.exponent)
        ends = []
        for c in (self.exponent, *np.linspace(*self.exponents, 25)):
            line, share = self.line(c), 1 - factor**-c
            reach = abs(share) * self.factor * self.error * line.spread
            ends.append((line.b * share - reach, line.b * share + reach))
        lows, highs = np.array(ends).T / self.last
        return Forecast(value / self.last, float(lows.min()), float(highs.max()))

    def _end(self, outermost: float, limit: float) -> float:
        """Return the exponent between the best one and the outermost whose sum of squares reaches the limit."""

        def beyond(c: float) -> float:
            return self.line(c).squares - limit

        if beyond(outermost) <= 0 or beyond(self.exponent) >= 0:  # all of them, or a fit without any error
            return outermost if beyond(outermost) <= 0 else self.exponent
        return float(brentq(beyond, self.exponent, outermost))


class _Line(NamedTuple):
    """A straight line a + b x by least squares of the relative residuals, with a >= 0: no loss is below 0."""

    a: float
    b: float
    spread: float  # standard deviation of b for a relative noise of 1
    squares: float
    residuals: Array


def _line(x: Array, y: Array) -> _Line:
    weights = y**-2.0
    mean_x, mean_y = (float(weights @ one / weights.sum()) for one in (x, y))
    norm = float(weights @ (x - mean_x) ** 2)
    b = float(weights @ ((x - mean_x) * y)) / norm
    a = mean_y - b * mean_x
    if a < 0:
        norm = float(weights @ x**2)
        a, b = 0.0, float(weights @ (x * y)) / norm
    residuals = 1 - (a + b * x) / y
    return _Line(a, b, norm**-0.5, float(residuals @ residuals), residuals)


def _inflation(residuals: Array) -> float:
    """Return the factor of the variance for residuals that are correlated from one line of metrics to the next."""
    total = float(residuals @ residuals)
    correlation = float(residuals[1:] @ residuals[:-1]) / total if total else 0.0
    correlation = min(max(correlation, 0.0), MAX_CORRELATION)
    return (1 + correlation) / (1 - correlation)


def fit(steps: Any, losses: Any) -> Curve | None:
    """Return the curve of a training without its beginning; None if fewer than `LEAST` points remain."""
    n, loss = np.asarray(steps, float), np.asarray(losses, float)
    kept = (n >= SKIPPED * n[-1]) & (n > 0) if len(n) else np.zeros(0, bool)
    return Curve(n[kept], loss[kept]) if kept.sum() >= LEAST else None
