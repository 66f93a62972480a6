"""Encode and decode: the error of Table 2."""

from itertools import pairwise

import pytest
import torch

from ddim.errors import UserError
from ddim.experiments import Setup, reconstruction
from ddim.samplers import DDIM
from ddim.schedule import linear
from ddim.timesteps import timesteps
from known import images, model

STD = 0.5


def some(count=5, grey_levels=17):
    generator = torch.Generator().manual_seed(0)
    return images(torch.randint(0, grey_levels, (count, 1, 4, 4), generator=generator), grey_levels)


@pytest.fixture
def known(gaussian):
    return model(gaussian(0.0, STD), linear(), (1, 4, 4))


def factor(schedule, S):
    """What encoding and decoding in S steps make of a pixel of N(0, STD^2): each step is a multiplication.

    Eq. 12 at eta = 0 is x_s = (alpha_s g + sigma_s (1 - alpha_t g) / sigma_t) x_t, g the gain of the exact
    denoiser; the step up from t = 0 takes the image for its own x0, and eps from the first time above.
    """
    times = timesteps(schedule, S).tolist()
    both = 1.0
    for t, s in pairwise(times):
        for start, end in ((t, s), (s, t)):
            asked, to = schedule(start or end), schedule(end)
            gain = asked.alpha * STD**2 / (asked.alpha**2 * STD**2 + asked.sigma**2)
            eps = (1 - asked.alpha * gain) / asked.sigma
            both *= to.alpha * (gain if start else 1) + to.sigma * eps
    return float(both)


def test_the_error_of_a_gaussian_is_a_formula(known):
    x0, _ = some().batch(torch.arange(5))
    rows = list(reconstruction.measure(known, some(), steps=[5, 20, 100]))
    assert [row.steps for row in rows] == [5, 20, 100]
    for row in rows:
        each = ((factor(known.schedule, row.steps) - 1) * x0.double() / 2).square().flatten(1).mean(1)
        assert row.error.mean == pytest.approx(float(each.mean()), rel=1e-3)
        assert row.error.margin == pytest.approx(2.776445 * float(each.std()) / 5**0.5, rel=1e-3)
    assert rows[0].error.mean > 4 * rows[1].error.mean > 16 * rows[2].error.mean


def test_the_scale_is_that_of_images_in_0_to_1():
    """Black taken for white is an error of 1; one grey level of 256, 1 / 255^2."""
    black, white = torch.full((2, 3, 4, 4), -1.0), torch.ones(2, 3, 4, 4)
    assert reconstruction.squared_error(black, white).tolist() == [1.0, 1.0]
    next_to_black = black + 2 / 255
    assert reconstruction.squared_error(black, next_to_black).tolist() == pytest.approx([1 / 255**2] * 2, rel=1e-5)


def test_the_steps_of_table_2_that_the_schedule_has(gaussian):
    assert reconstruction.STEPS == (10, 20, 50, 100, 200, 500, 1000)
    short = model(gaussian(0.0, STD), linear(T=60), (1, 4, 4))
    rows = reconstruction.measure(short, some(1))
    assert [row.steps for row in rows] == [10, 20, 50]
    tiny = model(gaussian(0.0, STD), linear(T=6), (1, 4, 4))
    assert [row.steps for row in reconstruction.measure(tiny, some(1))] == [6]


def test_a_row_comes_as_soon_as_it_is_known(known):
    calls = []
    known.network.register_forward_hook(lambda *_: calls.append(1))
    rows = reconstruction.measure(known, some(), steps=[3, 4])
    assert not calls
    next(rows)
    assert len(calls) == 2 * 3
    next(rows)
    assert len(calls) == 2 * (3 + 4)


def test_it_is_ddim_there_and_back_in_any_batch(model):
    pixels = torch.randint(0, 17, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    (row,) = reconstruction.measure(model, images(pixels), steps=[4], spacing="quadratic")
    x0, _ = images(pixels).batch(torch.arange(5))
    options = {"steps": 4, "sampler": DDIM(), "spacing": "quadratic"}
    back = model.decode(model.encode(x0, **options), **options)
    assert row.error.mean == pytest.approx(float(((back - x0) / 2).square().mean()), rel=1e-5)
    (parts,) = reconstruction.measure(model, images(pixels), steps=[4], spacing="quadratic", batch_size=2)
    assert parts.error.mean == pytest.approx(row.error.mean, rel=1e-5)


def test_the_label_is_told_both_ways(gaussian):
    known = model(gaussian(0.0, STD), linear(), (1, 4, 4), classes=2)
    list(reconstruction.measure(known, some(3), steps=[2]))
    assert known.network.told == [[0, 1, 0]] * 4


@pytest.mark.parametrize("steps", [[0], [10, 1001]])
def test_steps_that_cannot_be_are_refused_at_the_call(known, steps):
    with pytest.raises(UserError, match="between 1 and T = 1000"):
        reconstruction.measure(known, some(), steps=steps)


def test_a_limit_also_shortens_it_with_few_images(save_model, tmp_path):
    """With fewer held-out images than the smallest count, the largest S are left out."""
    generator = torch.Generator().manual_seed(0)
    few = images(torch.randint(0, 17, (3, 1, 8, 8), generator=generator))
    setup = Setup(tmp_path, save_model(T=1000), few, few)
    result, samples = reconstruction.Reconstruction().run(setup, seconds=1e-9)
    assert [row.steps for row in result.rows] == [10, 20]
    assert result.cut is not None
    assert "at most 20 steps" in result.cut
    assert samples["images"].shape == (3, 3, 1, 8, 8)
