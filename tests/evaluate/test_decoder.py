"""The decoder: the mass of a Gaussian in the cells of grey levels."""

import math

import pytest
import torch

from ddim.errors import UserError
from ddim.evaluate.decoder import std, surprise
from ddim.samplers import DDPM
from ddim.schedule import linear


def line(grey_levels):
    """Every grey level in [-1, 1], as one image each: (G, 1, 1, 1) float64."""
    return 2 * torch.arange(grey_levels, dtype=torch.float64).view(-1, 1, 1, 1) / (grey_levels - 1) - 1


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


def test_the_variance_is_that_of_ddpm_s_step_from_2_to_1():
    table = linear()
    assert std(table) == pytest.approx(float(DDPM().std(table(2), table(1))[0]), rel=1e-9)
    with pytest.raises(UserError, match="at least 2 steps"):
        std(linear(T=1))
