"""Intervals: as wide as metrics differ from draw to draw, and floors in which real images lie."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from ddim.evaluate import Metric
from ddim.evaluate.frechet import frechet, frechet_error, gaussian
from ddim.evaluate.intervals import Range, confidence_interval, prediction_interval, two_sample_bootstrap, wilson
from ddim.evaluate.kid import kid, kid_error
from ddim.evaluate.metrics import Reference, floor_of_others, floor_of_splits
from ddim.files import json_values

ANY = Range(-math.inf, math.inf)


def test_a_resampling_draws_as_many_and_each_alike():
    x, y = np.zeros((50, 2)), np.zeros((30, 2))
    both, again = (list(two_sample_bootstrap(x, y, 4000, 0)) for _ in range(2))
    for times, repeated, count in zip(both, again, (50, 30), strict=True):
        assert times.shape == (count, 4000)
        assert (times.sum(0) == count).all()
        assert times.mean(1) == pytest.approx(np.ones(count), abs=5 / math.sqrt(4000))
        assert np.array_equal(times, repeated)


@pytest.mark.parametrize(("share", "count"), [(0.0, 20), (0.3, 20), (1.0, 20), (0.5, 4)])
def test_wilson(share, count):
    """Its ends are the shares p that are just 1.96 of their own standard errors away."""
    low, high = wilson(share, count)
    for p in (low, high):
        assert (share - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / count, rel=1e-5, abs=1e-12)
    assert -1e-12 < low <= share <= high < 1 + 1e-12


def test_limits():
    assert confidence_interval(0.5, 1, Range(0, 1)) == (0, 1)
    assert prediction_interval([0.5, 1.5], Range(0, 1))[1] == (0, 1)


def test_95_in_100_new_draws_lie_in_the_prediction_interval():
    """Also where draws share images: of a pool of 30, each draw takes 20, and the new one none of them."""
    rng = np.random.default_rng(0)
    alone = together = 0
    for _ in range(4000):
        values = rng.standard_normal(8)
        _, (low, high) = prediction_interval(values.tolist(), ANY)
        alone += low <= rng.standard_normal() <= high
        pool = rng.standard_normal(30)
        means = [rng.permutation(pool)[:20].mean() for _ in range(8)]
        _, (low, high) = prediction_interval(means, ANY, part=20 / 30)
        together += low <= rng.standard_normal() / math.sqrt(20) <= high
    assert alone / 4000 == pytest.approx(0.95, abs=0.012)
    assert together / 4000 == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3, 1.0])
def test_the_standard_errors_are_those_of_new_draws(shift):
    """Both of sets that are drawn alike, where resampled distances vary by 1.7 times too much, and of others."""
    rng = np.random.default_rng(0)

    def draw():
        return rng.standard_normal((150, 8)) + shift, rng.standard_normal((200, 8))

    pairs = [draw() for _ in range(200)]
    of_frechet = np.std([frechet(gaussian(x), gaussian(y)) for x, y in pairs])
    of_kid = np.std([kid(x, y) for x, y in pairs])
    assert np.mean([frechet_error(x, y, 60, 0) for x, y in pairs[:10]]) == pytest.approx(of_frechet, rel=0.3)
    assert np.mean([kid_error(x, y, 60, 0) for x, y in pairs[:10]]) == pytest.approx(of_kid, rel=0.3)


def test_real_images_lie_in_the_floor():
    """Of 40 sets that are drawn like the reference, hardly more than 1 in 20 lie outside, by any metric."""
    rng = np.random.default_rng(0)
    held = Reference(rng.standard_normal((400, 5)), 100, 0)
    floors = floor_of_others(held, rng.standard_normal((1000, 5)), 100, 20)
    halves = floor_of_splits(held, 100, 20)
    new = [held.values(rng.standard_normal((100, 5))) for _ in range(40)]
    for name in new[0]:
        low, high = floors.interval(name)[1]
        inside = sum(low <= one[name] <= high for one in new)
        assert inside >= 33, (name, inside)  # fewer of 40 by chance: 1 in 400
    assert halves.interval("frechet")[0] > floors.interval("frechet")[0]  # against 300 in place of 400


def test_a_floor_is_the_same_again_and_another_by_another_seed():
    rng = np.random.default_rng(0)
    y, pool = rng.standard_normal((60, 3)), rng.standard_normal((90, 3))

    def floor(seed):
        return floor_of_others(Reference(y, 40, seed), pool, 40, 3).draws

    assert floor(0) == floor(0)
    assert floor(0) != floor(1)


def test_a_metric_outlives_a_file():
    metric = Metric(0.5, 0.4, 0.6, math.nan, math.nan, math.nan)
    again = Metric.from_dict(json.loads(json.dumps(json_values(asdict(metric)), allow_nan=False)))
    assert (again.value, again.low, again.high) == (0.5, 0.4, 0.6)
    assert math.isnan(again.floor)
