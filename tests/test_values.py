"""The range, type and order of axes of arrays: undone exactly, and refused where there is nothing to learn."""

import math

import numpy as np
import pytest
import torch

from ddim.errors import UserError
from ddim.values import Values, chosen_range, layout_of


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        ("uint8", (0, 255)),
        ("int8", (-128, 127)),
        ("uint16", (0, 65535)),
        ("uint16", (7, 4095)),
        ("int16", (-1000, 3000)),
    ],
)
def test_every_whole_number_comes_back(dtype, bounds):
    low, high = bounds
    numbers = np.arange(low, high + 1, dtype=dtype).reshape(-1, 1, 1, 1)
    values = Values(bounds, dtype)
    x = values.to_unit(torch.from_numpy(numbers))
    assert (x[0].item(), x[-1].item()) == (-1, 1)
    assert x.dtype == torch.float32
    assert np.array_equal(values.restore(x), numbers)
    assert values.grey_levels == high - low + 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-7), ("float64", 1e-7)])
def test_floats_come_back_to_the_rounding_of_their_range(dtype, tolerance):
    numbers = np.random.default_rng(0).uniform(-3, 17, (5, 2, 4, 3)).astype(dtype)
    values = Values((-3, 17), dtype)
    back = values.restore(values.to_unit(torch.from_numpy(numbers)))
    assert back.dtype == numbers.dtype
    assert np.abs(back - numbers).max() <= 20 * tolerance
    assert values.grey_levels is None


def test_numbers_in_minus_one_to_one_are_unchanged():
    x = torch.rand(2, 3, 4, 5) * 2 - 1
    assert torch.equal(Values((-1, 1)).to_unit(x), x)


@pytest.mark.parametrize(("layout", "shape"), [("CHW", (3, 5, 6)), ("HWC", (5, 6, 3)), ("HW", (5, 6))])
def test_images_come_back_in_their_order_of_axes(layout, shape):
    x = torch.rand(2, 1 if layout == "HW" else 3, 5, 6) * 2 - 1
    values = Values((-1, 1), "float32", layout)
    found = values.restore(x)
    assert found.shape == (2, *shape)
    assert values.shape(tuple(x.shape[1:])) == shape
    order = {"CHW": x, "HWC": x.permute(0, 2, 3, 1), "HW": x[:, 0]}[layout]
    assert np.array_equal(found, order.numpy())


@pytest.mark.parametrize(
    ("dtype", "extremes", "chosen"),
    [
        ("uint8", (3, 9), (0, 255)),
        ("uint16", (3, 4000), (3, 4000)),
        ("float32", (0.1, 0.9), (0, 1)),
        ("float32", (-0.2, 0.9), (-1, 1)),
        ("float32", (0, 1e-3), (0, 1e-3)),  # would fill a thousandth of [0, 1]
        ("float64", (-4.5, 4.0), (-4.5, 4.0)),
    ],
)
def test_the_range_is_that_of_the_type_or_of_the_numbers(dtype, extremes, chosen):
    assert chosen_range("x", dtype, *extremes) == chosen


@pytest.mark.parametrize(
    ("extremes", "given", "reason"),
    [
        ((5, 5), None, "All numbers of x are 5, a range of zero"),
        ((0, 5), (1, 6), "lie between 0 and 5, not all in the range from 1 to 6"),
        ((0, 5), (5, 0), r"two finite numbers, low and high, with low < high, .* got \(5, 0\)"),
        ((0, 5), (0, math.inf), "two finite numbers"),
        ((0, 5), 5, "two finite numbers, .* got 5"),
    ],
)
def test_a_range_from_which_nothing_is_learned_is_refused(extremes, given, reason):
    with pytest.raises(UserError, match=reason):
        chosen_range("x", "float32", extremes[0], extremes[1], given)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((8, 6), "HW"), ((12, 64, 48), "CHW"), ((32, 32, 3), "HWC"), ((4, 32, 32), "CHW"), ((3, 2, 1), "CHW")],
)
def test_the_order_of_the_axes_is_read_from_the_shape(shape, layout):
    assert layout_of(shape, "x") == layout


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((8,), r"x has the shape \(8,\); an image is an array \(C, H, W\)"),
        ((2, 3, 4, 5), "an image is an array"),
        ((65, 8, 8), "read as 65 channels of 8 × 8 pixels; an image has 1 to 64 channels"),
        ((1, 8, 2000), "1 to 1,024 pixels a side"),
        ((1, 0, 8), "read as 1 channels of 0 × 8"),
    ],
)
def test_what_is_no_image_is_refused(shape, reason):
    with pytest.raises(UserError, match=reason):
        layout_of(shape, "x")
