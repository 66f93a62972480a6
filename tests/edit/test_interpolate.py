"""Interpolation along arcs, and the images of it."""

import math

import pytest
import torch

from ddim.edit import grid, interpolate, line, slerp, tour
from ddim.errors import UserError
from ddim.samplers import DDIM, DDPM, trajectory
from ddim.schedule import linear
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps

SHAPES = [(7,), (1, 8, 8), (3, 4, 5)]


def noises(count, shape=(1, 8, 8), dtype=torch.float64):
    return torch.randn(count, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_ends_are_exact(shape, dtype):
    start, end = noises(2, shape, dtype)
    assert torch.equal(slerp(start, end, 0), start)
    assert torch.equal(slerp(start, end, 1), end)
    assert slerp(start, end, 0.3).dtype == dtype
    assert slerp(start, end, 0.3).shape == shape


@pytest.mark.parametrize("weight", [-0.5, 0.1, 0.25, 0.5, 0.9])
def test_it_is_the_papers_formula(weight):
    start, end = noises(2)
    theta = torch.acos((start * end).sum() / (start.norm() * end.norm()))
    expected = ((1 - weight) * theta).sin() / theta.sin() * start + (weight * theta).sin() / theta.sin() * end
    torch.testing.assert_close(slerp(start, end, weight), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_lengths_are_kept_and_the_angle_grows_evenly(shape):
    start, end = noises(2, shape)
    end = end * start.norm() / end.norm()
    theta = float(torch.acos((start * end).sum() / start.norm() ** 2))
    for weight in (0.2, 0.5, 0.8):
        between = slerp(start, end, weight)
        assert float(between.norm()) == pytest.approx(float(start.norm()), rel=1e-12)
        angle = float(torch.acos((start * between).sum() / start.norm() ** 2))
        assert angle == pytest.approx(weight * theta, rel=1e-6)


def test_a_right_angle_is_a_quarter_of_a_circle():
    start, end = torch.eye(2, dtype=torch.float64)
    for weight in (0.0, 1 / 3, 0.5, 1.0):
        turned = [math.cos(weight * math.pi / 2), math.sin(weight * math.pi / 2)]
        assert slerp(start, end, weight).tolist() == pytest.approx(turned, abs=1e-15)


@pytest.mark.parametrize("weight", [0.125, 0.5, 0.75])
def test_it_is_symmetric(weight):
    start, end = noises(2)
    torch.testing.assert_close(slerp(start, end, weight), slerp(end, start, 1 - weight), rtol=1e-14, atol=1e-15)


def test_parallel_vectors_are_joined_by_a_straight_line():
    (start,) = noises(1)
    assert torch.equal(slerp(start, start, 0.3), start) or torch.allclose(
        slerp(start, start, 0.3), start, rtol=1e-15, atol=0
    )
    torch.testing.assert_close(slerp(start, 3 * start, 0.25), 1.5 * start, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-7])
def test_nearly_parallel_in_float32(size):
    """Where the cosine is 1 to rounding: the arc is then the chord, to a part of theta^2."""
    start, end = noises(2, dtype=torch.float32)
    end = start + size * end
    for weight in (0.0, 0.25, 0.5, 1.0):
        chord = (1 - weight) * start.double() + weight * end.double()
        torch.testing.assert_close(slerp(start, end, weight).double(), chord, rtol=0, atol=size**2 + 3e-7)


def test_it_is_computed_in_float64():
    start, end = noises(2, dtype=torch.float32)
    assert torch.equal(slerp(start, end, 0.3), slerp(start.double(), end.double(), 0.3).float())


def test_opposite_noises_are_refused():
    (start,) = noises(1)
    with pytest.raises(UserError, match="opposite"):
        slerp(start, -start, 0.5)
    with pytest.raises(UserError, match="opposite"):
        slerp(start.float(), -2 * start.float(), 0.5)
    nearly = -start + 1e-3 * noises(2)[1]
    assert float(slerp(start, nearly, 0.5).norm()) == pytest.approx(float(start.norm()), rel=1e-2)


@pytest.mark.parametrize("broken", [torch.zeros(3), torch.full((3,), math.nan), torch.full((3,), math.inf)])
def test_a_vector_without_a_direction_is_refused(broken):
    with pytest.raises(UserError, match="direction"):
        slerp(torch.ones(3), broken, 0.5)


def test_shapes_must_agree():
    with pytest.raises(UserError, match="one shape"):
        slerp(torch.ones(3), torch.ones(1, 3), 0.5)


def test_a_line_and_a_grid_hold_their_ends():
    corners = noises(4)
    along = line(corners[0], corners[1], 5)
    assert along.shape == (5, 1, 8, 8)
    assert torch.equal(along[0], corners[0])
    assert torch.equal(along[-1], corners[1])
    torch.testing.assert_close(along[1], slerp(corners[0], corners[1], 0.25))
    laid = grid(corners, rows=3, columns=4)
    assert laid.shape == (3, 4, 1, 8, 8)
    for (row, column), corner in zip(((0, 0), (0, -1), (-1, 0), (-1, -1)), corners, strict=True):
        assert torch.equal(laid[row, column], corner)
    top, bottom = slerp(corners[0], corners[1], 1 / 3), slerp(corners[2], corners[3], 1 / 3)
    torch.testing.assert_close(laid[1, 1], slerp(top, bottom, 0.5))  # pairs under start weight, then across (D.5)


def test_lines_and_grids_that_cannot_be():
    with pytest.raises(UserError, match="at least 2"):
        line(noises(2)[0], noises(2)[1], 1)
    with pytest.raises(UserError, match="four corners"):
        grid(noises(3), 2, 2)


def test_the_images_of_a_grid_are_those_of_its_noises(gaussian):
    table = linear()
    levels, denoise = levels_at(table, timesteps(table, 10)), gaussian(0.2, 0.5)
    xT = grid(noises(4), 2, 3)
    found = interpolate(DDIM(), denoise, xT, levels)
    assert found.shape == xT.shape
    for row in range(2):
        for column in range(3):
            *_, alone = trajectory(DDIM(), denoise, xT[row, column][None], levels)
            torch.testing.assert_close(found[row, column], alone[0])


def test_a_stochastic_sampler_is_refused(gaussian):
    table = linear()
    with pytest.raises(UserError, match="deterministic"):
        interpolate(DDPM(), gaussian(0.0, 1.0), noises(2), levels_at(table, timesteps(table, 5)))


@pytest.mark.parametrize("ends", [2, 3, 5])
def test_a_tour_passes_each_end_once_by_arcs_and_closes(ends):
    codes = noises(ends)
    way = tour(codes, 4)
    assert torch.equal(way[::4], codes)
    for i in range(ends):
        assert torch.equal(way[4 * i : 4 * i + 4], line(codes[i], codes[(i + 1) % ends], 5)[:4])
    with pytest.raises(UserError, match="at least 2 ends"):
        tour(codes[:1], 4)
