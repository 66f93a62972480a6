"""Dequantisation of grey levels, and the decoder: the mass of a Gaussian in their cells."""

import math

import pytest
import torch

from ddim.errors import UserError
from ddim.evaluate.dequantise import decoder_nll, decoder_std, dequantisations
from ddim.noise import stream
from ddim.samplers import DDIM
from ddim.schedule import linear
from known import images

LINEAR = linear()


def dequantised(name, denoise, pixels, grey_levels, streams=None):
    """The images, their places and the costs, in float64."""
    x0, _ = images(pixels, grey_levels).batch(torch.arange(len(pixels)))
    streams = streams or [stream(0, i) for i in range(len(pixels))]
    return x0, *dequantisations[name](denoise, x0.double(), streams, LINEAR, grey_levels)


class Fixed:
    """A stream that gives one number again and again."""

    def __init__(self, number):
        self.number = number

    def random(self, shape, dtype):
        return self.number * torch.ones(shape).numpy()


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
def test_the_cells_tile_the_line_around_the_grey_levels(gaussian, grey_levels):
    pixels = torch.arange(grey_levels).view(1, 1, 1, -1)
    ends = {}
    for u in (0, 0.5, 1):
        x0, y, _ = dequantised("uniform", None, pixels, grey_levels, [Fixed(u)])
        ends[u] = y.flatten()
    torch.testing.assert_close(ends[0.5], x0.double().flatten(), rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[1][:-1], ends[0][1:], rtol=0, atol=1e-6)
    lower = 2 * (pixels.flatten().double() - 0.5) / (grey_levels - 1) - 1
    torch.testing.assert_close(ends[0], lower, rtol=0, atol=1e-6)
    assert float(ends[0][0] + ends[1][-1]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
def test_who_knows_only_the_range_needs_log2_of_the_levels(grey_levels):
    """The uniform density over all cells, which together are 2 G / (G - 1) long."""
    pixels = torch.randint(0, grey_levels, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    _, y, cost = dequantised("uniform", None, pixels, grey_levels)
    log_p = 16 * math.log((grey_levels - 1) / (2 * grey_levels))
    assert ((cost - log_p) / (16 * math.log(2))).tolist() == pytest.approx([math.log2(grey_levels)] * 3, rel=1e-12)
    assert float(y.abs().max()) <= grey_levels / (grey_levels - 1)


def test_a_place_is_anywhere_in_the_cell():
    _, y, _ = dequantised("uniform", None, torch.full((500, 1, 4, 4), 5), 17)
    u = (y + 1) * 8 - 5 + 0.5
    assert 0 <= float(u.min()) < 0.001
    assert 0.999 < float(u.max()) <= 1
    assert float(u.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 8000))
    assert float(u.var()) == pytest.approx(1 / 12, rel=0.05)


def test_noise_is_that_of_the_first_level_and_its_cost_is_a_formula(gaussian):
    """log q(y | v) is a normal law's, and L_0 is the decoder's at the mean that the network predicts."""
    denoise, at = gaussian(0.1, 0.3), LINEAR(1)
    x0, y, cost = dequantised("noise", denoise, torch.full((400, 1, 4, 4), 11), 17)
    rho = float(at.sigma / at.alpha)
    assert float((y - x0).std()) == pytest.approx(rho, rel=4 / math.sqrt(2 * 6400))
    log_q = torch.distributions.Normal(x0.double(), rho).log_prob(y).flatten(1).sum(1)
    L_0 = decoder_nll(x0.double(), denoise(at.alpha * y, at).x0, decoder_std(LINEAR), 17)
    torch.testing.assert_close(cost, log_q + L_0)


def test_an_unknown_way():
    with pytest.raises(UserError, match="no dequantisation called 'gauss'"):
        dequantisations["gauss"]


def line(grey_levels):
    """Every grey level in [-1, 1], as one image each: (G, 1, 1, 1) float64."""
    return 2 * torch.arange(grey_levels, dtype=torch.float64).view(-1, 1, 1, 1) / (grey_levels - 1) - 1


@pytest.mark.parametrize("grey_levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.01), (0.3, 0.5), (-1.0, 1e-3), (1.4, 0.2), (0.031, 5.0)])
def test_the_decoder_s_probabilities_add_up_to_one(grey_levels, mean, std):
    x0 = line(grey_levels)
    p = (-decoder_nll(x0, torch.full_like(x0, mean), std, grey_levels)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)


def test_the_decoder_is_a_difference_of_distribution_functions():
    x0 = line(17)[1:-1]
    mean, std = torch.full_like(x0, 0.2), 0.4
    p = torch.special.ndtr((x0 + 1 / 16 - mean) / std) - torch.special.ndtr((x0 - 1 / 16 - mean) / std)
    torch.testing.assert_close(decoder_nll(x0, mean, std, 17), -p.log().flatten(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("mean", [-0.9, 0.9])
def test_the_decoder_is_right_far_out_in_the_tail(mean):
    """Where Phi itself is 0 or 1 to rounding: against a sum of the density over the cell, in logarithms."""
    x0, std = line(17)[8:9], 0.02  # 0, some 42 standard deviations from the mean
    places = torch.linspace(-1 / 16, 1 / 16, 200_001, dtype=torch.float64)
    density = -(((places - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))
    expected = -(torch.logsumexp(density, 0) + math.log(2 / 16 / 200_001))
    found = decoder_nll(x0, torch.full_like(x0, mean), std, 17)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(found) > 800


def test_the_images_of_a_batch_are_summed_apart():
    x0 = line(17).view(1, 1, 1, 17).expand(3, 1, 1, 17)
    mean = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64).view(3, 1, 1, 1).expand_as(x0)
    found = decoder_nll(x0, mean, 0.3, 17)
    assert found.shape == (3,)
    torch.testing.assert_close(found[1], found[2])
    single = decoder_nll(line(17), torch.zeros(17, 1, 1, 1), 0.3, 17)
    torch.testing.assert_close(found[0], single.sum())


def test_the_variance_is_that_of_ddpm_s_step_from_2_to_1():
    table = linear()
    assert decoder_std(table) == pytest.approx(float(DDIM(eta=1.0).std(table(2), table(1))[0]), rel=1e-9)
    with pytest.raises(UserError, match="at least 2 steps"):
        decoder_std(linear(T=1))
