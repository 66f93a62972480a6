"""Prefetched batches equal those that are drawn when they are needed; times have the distribution of the plan."""

import threading
from functools import partial
from statistics import NormalDist
from typing import Any

import pytest
import torch

from ddim import open_images, schedule
from ddim.train import Plan
from ddim.train.batches import PREFETCH, Prefetcher, draw_batch, lognormal


def same(a, b):
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def test_batches_are_the_same_whatever_is_asked_next():
    """In order, in parts, back to an earlier step after a breakdown, and in other parts from then on."""
    draw = partial(draw_batch, Plan(batch_size=8), open_images("digits"), 1000)
    prefetch = Prefetcher(draw, torch.device("cpu"))
    asked = [(step, range(8)) for step in range(1, 7)]
    asked += [(3, range(4)), (3, range(4, 8)), (4, range(4)), (4, range(4, 8)), (5, range(8))]
    assert all(same(prefetch(*key), draw(*key)) for key in asked)


def test_the_next_batches_are_begun_and_no_more():
    begun, all_begun = [], threading.Event()

    def record(step, positions):
        begun.append(step)
        if len(begun) == PREFETCH:
            all_begun.set()
        return step

    prefetch: Any = Prefetcher(record, torch.device("cpu"))  # of steps in place of batches
    assert prefetch(1, range(8)) == 1
    assert all_begun.wait(10)
    assert sorted(begun) == list(range(1, PREFETCH + 1))
    assert prefetch(2, range(8)) == 2
    assert begun.count(2) == 1


def test_what_fails_in_a_thread_is_raised_where_the_batch_is_asked_for():
    def fail(step, positions):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Prefetcher(fail, torch.device("cpu"))(1, range(8))


@pytest.mark.parametrize("named", ["linear", "cosine"])
def test_lognormal_times_have_the_distribution_of_edm(named):
    """In a batch of N images, the share with a noise level below that of any time is Phi((log level + 1.2) / 1.2)."""
    noise, N = schedule.get(named), 512
    cumulative = lognormal(noise)
    assert (cumulative.diff() >= 0).all()
    assert cumulative[-1] == 1
    plan = Plan(batch_size=N, times="lognormal")
    batch = draw_batch(plan, open_images("digits"), noise.N, 3, range(N), cumulative)
    assert 1 <= batch.t.min() <= batch.t.max() <= noise.N
    for t in (100, 300, 500):
        level = noise(torch.tensor(t + 0.5))
        expected = NormalDist(-1.2, 1.2).cdf(float(torch.log(level.sigma / level.alpha)))
        assert 0.05 < expected < 0.999
        assert (batch.t <= t).double().mean() == pytest.approx(expected, abs=2 / N + 1e-3)


def test_equal_probabilities_are_the_times_without_any():
    """The 1,000 parts of [0, 1) are those of `stratified`, up to rounding at their ends."""
    plan, images = Plan(batch_size=64, times="stratified"), open_images("digits")
    equal = torch.arange(1, 1001, dtype=torch.float64) / 1000
    one, other = (draw_batch(plan, images, 1000, 5, range(64), cumulative).t for cumulative in (None, equal))
    assert torch.equal(one, other)
