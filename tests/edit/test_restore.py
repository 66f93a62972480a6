"""Restoration with a model: the known stays, noise is an argument, and what does not fit is refused."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from correlated import SCHEDULE, SHAPE, denoise

import known
from ddim.edit import Box, Mask, SuperResolution, restore
from ddim.errors import UserError
from ddim.predict import from_x0

BOX = Box(SHAPE, 1, 1, 2, 2)


@pytest.fixture
def exact():
    """A model whose network is the exact denoiser of Gaussian images with correlated pixels."""
    return known.model(denoise, SCHEDULE, SHAPE)


def images(count=2):
    return 0.3 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["ddnm", "pigdm", "diffpir"])
def test_known_pixels_are_returned_untouched(exact, method):
    x0 = images()
    found = restore(exact, BOX.forward(x0), BOX, method=method, steps=5, count=3, progress=False)
    assert found.shape == (2, 3, *SHAPE)
    known = BOX.mask.expand(SHAPE)
    assert torch.equal(found[..., known], x0[:, None, known].expand(2, 3, -1))
    assert len(found[..., ~known].flatten(2).unique(dim=1).flatten(0, 1)) == 6  # samples differ where nothing is known
    assert float(found.abs().max()) <= 1


def test_samples_lie_in_the_range_of_images_unless_clipping_is_off():
    """The last step of iPNDM extrapolates beyond x0, although each x0 is clipped. Here every pixel is -1 or 1."""
    black_or_white = known.model(lambda x, at: from_x0(x, at, (at.alpha * x / at.sigma**2).tanh()), SCHEDULE, SHAPE)
    y = BOX.forward(images().sign())

    def furthest():
        return float(
            restore(black_or_white, y, BOX, method="ddnm", sampler="ipndm", steps=6, progress=False).abs().max()
        )

    assert furthest() == 1
    black_or_white.sampling = replace(black_or_white.sampling, clip=False)
    assert furthest() > 1


def test_a_sample_does_not_depend_on_its_batch(exact):
    y, operator = SuperResolution(2).forward(images()), SuperResolution(2)

    def samples(y, batch_size=64):
        return restore(exact, y, operator, 0.1, steps=4, count=3, seed=5, batch_size=batch_size, progress=False)

    together = samples(y)
    torch.testing.assert_close(samples(y, batch_size=1), together)
    torch.testing.assert_close(samples(y[:1]), together[:1])


def test_the_labels_reach_the_network():
    model = known.model(denoise, SCHEDULE, SHAPE, classes=3)
    restore(model, images(), Mask(torch.ones(4, 4)), 0.2, labels=[2, 0], count=2, steps=1, progress=False)
    assert model.network.told == [[2, 2, 0, 0]]
    wrong: tuple[Any, ...] = ([1, 2, 1], ["a", 0], [3, 0])
    for labels in wrong:
        with pytest.raises(UserError, match="2 labels, one per image, classes from 0 to 2"):
            restore(model, images(), Mask(torch.ones(4, 4)), labels=labels, steps=1, progress=False)


def test_the_network_of_a_model_is_differentiated(model):
    """A U-Net, in eval mode, whose parameters get no gradients."""
    x0 = torch.zeros(1, 1, 8, 8)
    operator = SuperResolution(4)
    found = restore(model, operator.forward(x0), operator, steps=3, clip=False, progress=False)
    assert float(operator.forward(found[:, 0]).abs().max()) < 1e-5 * float(found.abs().max())
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_resampling_takes_each_step_so_often(exact):
    calls = []
    forward = exact.network.forward

    def counted(x, t):
        calls.append(float(t[0]))
        return forward(x, t)

    exact.network.forward = counted
    restore(exact, BOX.forward(images()), BOX, method="ddnm", steps=3, resample=4, progress=False)
    assert len(calls) == 12
    assert len(set(calls)) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"operator": Mask(torch.ones(5, 4))}, "5 × 4"),
        ({"operator": SuperResolution(3)}, "factor of 4"),
        ({"y": torch.zeros(2, 1, 4, 5)}, "measurement must be"),
        ({"y": torch.full((1, *SHAPE), math.inf)}, "finite"),
        ({"noise_std": -1}, "noise_std"),
        ({"count": 0}, "count"),
        ({"method": "dnm"}, "did you mean"),
        ({"labels": [0, 0]}, "without classes"),
        ({"sampler": "unipc", "resample": 2}, "keeps a state"),
        ({"operator": SuperResolution(1), "resample": 2}, "for a mask"),
        ({"steps": 0}, "steps"),
        ({"iterations": 2, "method": "ddnm"}, "iterations"),
    ],
)
def test_bad_input_is_refused(exact, changed, said):
    with pytest.raises(UserError, match=said):
        restore(exact, **{"y": torch.zeros(2, *SHAPE), "operator": BOX, "progress": False, "steps": 2, **changed})
