"""Prefetched batches equal those that are drawn when they are needed."""

import threading
from functools import partial
from typing import Any

import pytest
import torch

from ddim import open_images
from ddim.train import Plan
from ddim.train.batches import PREFETCH, Prefetcher, draw_batch


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
