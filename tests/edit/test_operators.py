"""The operators: adjoint, inverse, and equal to what other libraries compute."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from ddim.edit import Blur, Box, Grey, Linear, Mask, SuperResolution
from ddim.edit.operators import Operator, check_measurement
from ddim.errors import UserError
from ddim.pictures import to_uint8


def checker(H, W):
    return (torch.arange(H)[:, None] + torch.arange(W)) % 3 > 0


OPERATORS = {
    "mask": (Mask(checker(8, 6)), (3, 8, 6)),
    "mask of each channel": (Mask(torch.stack([checker(8, 6), ~checker(8, 6)])), (2, 8, 6)),
    "box": (Box((8, 6), 2, 1, 3, 4), (1, 8, 6)),
    "super-resolution": (SuperResolution(2), (3, 8, 6)),
    "blur": (Blur(0.5), (2, 8, 6)),
    "grey": (Grey(), (3, 8, 6)),
    "linear": (Linear(lambda x: x.flatten(1)[:, ::5] * 2, lambda y: spread(y)), (1, 8, 6)),
}
EVERY = pytest.mark.parametrize(("operator", "shape"), OPERATORS.values(), ids=list(OPERATORS))


def spread(y):
    x = y.new_zeros(len(y), 48)
    x[:, ::5] = 2 * y
    return x.reshape(len(y), 1, 8, 6)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_the_adjoint_is_the_adjoint(operator, shape):
    x = draw(5, *shape)
    y = draw(5, *operator.measured(shape), seed=1)
    assert operator.forward(x).shape == y.shape
    left, right = (operator.forward(x) * y).flatten(1).sum(1), (x * operator.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@EVERY
def test_the_pseudo_inverse_is_penroses(operator, shape):
    """A A^+ A = A, and A^+ A is symmetric; A A^+ then is too, as A^+ = A^T (A A^T)^+."""
    x, other = draw(4, *shape), draw(4, *shape, seed=1)
    seen = operator.pseudo_inverse(operator.forward(x))
    torch.testing.assert_close(operator.forward(seen), operator.forward(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        (seen * other).sum(), (x * operator.pseudo_inverse(operator.forward(other))).sum(), rtol=1e-9, atol=1e-9
    )


@EVERY
@pytest.mark.parametrize("ridge", [0.3, torch.tensor([0.1, 0.3, 1.0, 7.0]).reshape(4, 1, 1, 1)], ids=["one", "each"])
def test_a_solution_solves(operator, shape, ridge):
    y = operator.forward(draw(4, *shape))
    v = operator.solve(y, ridge)
    scale = ridge if isinstance(ridge, float) else ridge.reshape(-1, *(1,) * (y.ndim - 1))
    torch.testing.assert_close(operator.forward(operator.adjoint(v)) + scale * v, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["super-resolution", "blur", "grey"])
def test_the_closed_forms_are_what_conjugate_gradients_find(name):
    operator, shape = OPERATORS[name]
    y = operator.forward(draw(4, *shape))
    torch.testing.assert_close(operator.solve(y, 0.2), Operator.solve(operator, y, 0.2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("std", [0.5, 1.5, 6.0])
def test_a_blur_is_that_of_scipy(std):
    x = draw(1, 1, 9, 14)
    theirs = gaussian_filter(x[0, 0].numpy(), std, mode="reflect", truncate=8)
    np.testing.assert_allclose(Blur(std).forward(x)[0, 0].numpy(), theirs, atol=1e-10)


def test_grey_is_that_of_pillow():
    x = draw(1, 3, 9, 14).clamp(-1, 1)
    pixels = to_uint8(x)
    theirs = np.asarray(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L"), dtype=float)
    ours = (Grey().forward(pixels.double() / 127.5 - 1)[0, 0] + 1) * 127.5
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.51)


def test_an_average_of_squares():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert SuperResolution(2).forward(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_what_a_blur_loses_is_not_amplified():
    """Of a wide blur, rounding to half a grey level leaves an inverse of the size of an image."""
    x = draw(1, 1, 28, 28).clamp(-1, 1)
    y = to_uint8(Blur(2.0).forward(x)).double() / 127.5 - 1
    assert float(Blur(2.0).pseudo_inverse(y).abs().max()) < 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY
def test_the_dtype_is_kept(operator, shape, dtype):
    x = draw(2, *shape).to(dtype)
    assert operator.forward(x).dtype == operator.pseudo_inverse(operator.forward(x)).dtype == dtype


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mask(torch.full((4, 4), 0.5)), "Threshold"),
        (lambda: Mask(torch.ones(4)), r"\(H, W\)"),
        (lambda: Mask(torch.zeros(4, 4)), "no known pixel"),
        (lambda: Mask(torch.ones(5, 4)).measured((1, 4, 4)), "5 × 4 pixels, and the model's images are 4 × 4"),
        (lambda: Mask(torch.ones(2, 4, 4)).measured((3, 4, 4)), "with 2 channels"),
        (lambda: Box((4, 4), 0, 0, 4, 4), "no known pixel"),
        (lambda: Box((4, 4), 2, 2, 3, 1), "height"),
        (lambda: SuperResolution(0), "at least 1"),
        (lambda: SuperResolution(3).measured((1, 8, 6)), "choose a factor of 2"),
        (lambda: Blur(0.0), "above 0"),
        (lambda: Grey().measured((1, 4, 4)), "3 channels"),
        (lambda: Linear(lambda x: x, lambda y: 2 * y).measured((1, 4, 4)), "another number"),
        (lambda: Linear(lambda x: x.flatten(1), lambda y: y).measured((1, 4, 4)), r"shape \(1, 16\)"),
        (lambda: Linear(lambda x: x @ torch.ones(3, 3), lambda y: y).measured((1, 4, 4)), "does not take images"),
        (lambda: check_measurement(None, torch.zeros(1, 1, 4, 4), (1, 4, 4)), "must be an Operator"),
        (lambda: check_measurement(Blur(1), torch.zeros(1, 1, 4, 5), (1, 4, 4)), r"\(B, 1, 4, 4\)"),
        (lambda: check_measurement(Blur(1), torch.zeros(1, 1, 4, 4).int(), (1, 4, 4)), "float"),
        (lambda: check_measurement(Blur(1), torch.full((1, 1, 4, 4), torch.nan), (1, 4, 4)), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
