"""Which images are judged, and how well so many tell a mean."""

import math

import pytest
import torch

from ddim.evaluate.batches import batches, spread_rows
from ddim.evaluate.intervals import Mean
from known import images


def test_a_few_images_are_spread_over_the_set(model):
    some = images(torch.zeros(100, 1, 8, 8))
    assert spread_rows(model, some, None).tolist() == list(range(100))
    assert spread_rows(model, some, 4).tolist() == [0, 25, 50, 75]
    assert len(set(spread_rows(model, some, 99).tolist())) == 99


def test_batches_hold_every_image_once_and_know_its_place(model):
    pixels = torch.arange(7).view(-1, 1, 1, 1).expand(7, 1, 8, 8)
    rows = torch.tensor([0, 2, 3, 5, 6])
    found = list(batches(model, images(pixels), rows, 2))
    assert [batch.rows for batch in found] == [[0, 2], [3, 5], [6]]
    assert all(batch.label is None for batch in found)
    for batch in found:
        assert (batch.x0[:, 0, 0, 0] * 8 + 8).tolist() == batch.rows


def test_the_interval_holds_the_truth_95_times_in_100():
    """Of normal values, exactly so for any number: here 4, where the normal quantile would hold it 86 times."""
    values = torch.randn(4000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    held = sum(abs(Mean.of(row).mean - 3) < Mean.of(row).margin for row in values)
    assert held / 4000 == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


def test_one_image_tells_no_interval():
    assert Mean.of(torch.tensor([2.5])) == Mean(2.5, math.inf, 1)
