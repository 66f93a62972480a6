"""Grey levels on the real line: dequantised, decoded, and counted in bits."""

import math

import pytest
import torch
from known import images

from ddim.evaluate.cells import bits, dequantise
from ddim.evaluate.decoder import surprise


def line(grey_levels):
    """Every grey level in [-1, 1], as one image each: (G, 1, 1, 1) float64."""
    return 2 * torch.arange(grey_levels, dtype=torch.float64).view(-1, 1, 1, 1) / (grey_levels - 1) - 1


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
def test_the_cells_tile_the_line_around_the_grey_levels(grey_levels):
    x0 = line(grey_levels)
    shown, _ = images(torch.arange(grey_levels).view(-1, 1, 1, 1), grey_levels).batch(torch.arange(grey_levels))
    torch.testing.assert_close(shown.double(), x0, rtol=0, atol=1e-7)  # where `Images` puts them
    low, middle, high = (dequantise(x0, torch.full_like(x0, u), grey_levels).flatten() for u in (0, 0.5, 1))
    torch.testing.assert_close(middle, x0.flatten())
    torch.testing.assert_close(high[:-1], low[1:])
    torch.testing.assert_close(high - low, torch.full_like(low, 2 / (grey_levels - 1)))
    assert float(low[0] + high[-1]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
def test_who_knows_only_the_range_needs_log2_of_the_levels(grey_levels):
    """The uniform density over all cells, which are 2 G / (G - 1) long."""
    density = torch.tensor([12 * math.log((grey_levels - 1) / (2 * grey_levels))], dtype=torch.float64)
    assert float(bits(density, 12, grey_levels)) == pytest.approx(math.log2(grey_levels), rel=1e-12)


def test_who_knows_the_cell_needs_no_bits():
    density = torch.tensor([12 * math.log(16 / 2)], dtype=torch.float64)  # 1 / its width
    assert float(bits(density, 12, 17)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.01), (0.3, 0.5), (-1.0, 1e-3), (1.4, 0.2), (0.031, 5.0)])
def test_the_decoder_s_probabilities_add_up_to_one(grey_levels, mean, std):
    x0 = line(grey_levels)
    p = (-surprise(x0, torch.full_like(x0, mean), std, grey_levels)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)


def test_the_decoder_is_a_difference_of_distribution_functions():
    x0 = line(17)[1:-1]
    mean, std = torch.full_like(x0, 0.2), 0.4
    p = torch.special.ndtr((x0 + 1 / 16 - mean) / std) - torch.special.ndtr((x0 - 1 / 16 - mean) / std)
    torch.testing.assert_close(surprise(x0, mean, std, 17), -p.log().flatten(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("mean", [-0.9, 0.9])
def test_the_decoder_is_right_far_out_in_the_tail(mean):
    """Where Phi itself is 0 or 1 to rounding: against a sum of the density over the cell, in logarithms."""
    x0, std = line(17)[8:9], 0.02  # 0, some 42 standard deviations from the mean
    places = torch.linspace(-1 / 16, 1 / 16, 200_001, dtype=torch.float64)
    density = -(((places - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))
    expected = -(torch.logsumexp(density, 0) + math.log(2 / 16 / 200_001))
    found = surprise(x0, torch.full_like(x0, mean), std, 17)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(found) > 800


def test_the_images_of_a_batch_are_summed_apart():
    x0 = line(17).view(1, 1, 1, 17).expand(3, 1, 1, 17)
    mean = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64).view(3, 1, 1, 1).expand_as(x0)
    found = surprise(x0, mean, 0.3, 17)
    assert found.shape == (3,)
    torch.testing.assert_close(found[1], found[2])
    single = surprise(line(17), torch.zeros(17, 1, 1, 1), 0.3, 17)
    torch.testing.assert_close(found[0], single.sum())
