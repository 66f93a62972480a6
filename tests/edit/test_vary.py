"""Variations and blends: how much of an image they keep, in closed form, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import known
from ddim.edit import blend, vary
from ddim.errors import UserError
from ddim.schedule import vp_sde
from ddim.verify.exact import Gaussian

SCHEDULE, SHAPE = vp_sde(), (1, 1, 2)
DATA = Gaussian((0.1, -0.2), (0.3, 0.5))
OPTIONS: dict[str, Any] = {"steps": 200, "sampler": "unipc", "spacing": "log-snr", "clip": False}


@pytest.fixture
def exact():
    return known.model(DATA.denoise, SCHEDULE, SHAPE)


def pixels(*values):
    return torch.tensor(values).reshape(1, *SHAPE)


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_what_is_kept_of_an_image_is_what_the_flow_keeps(exact, strength):
    """x_0 = m + s / std_t (x_t - alpha m): two images with one noise stay alpha s / std_t of their difference apart."""
    x0, other = pixels(0.5, 0.4), pixels(-0.3, 0.1)
    found = vary(exact, x0, strength, seed=3, **OPTIONS) - vary(exact, other, strength, seed=3, **OPTIONS)
    _, levels = exact.sampling.resolve(SCHEDULE, **{name: OPTIONS[name] for name in ("steps", "sampler", "spacing")})
    start = levels[-1 - round(strength * 200)]
    kept = start.alpha * torch.tensor(DATA.std) / DATA.law(start).std
    expected = (kept * (x0 - other)[0, 0, 0]).float()
    torch.testing.assert_close(found[0, 0, 0, 0], expected, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("strength", "steps", "taken"), [(0.28, 25, 7), (0.07, 100, 7), (0.29, 25, 8), (1e-9, 10, 1), (1.0, 10, 10)]
)
def test_the_share_of_the_steps_is_rounded_up(strength, steps, taken):
    """0.28 of 25 steps are 7, although 0.28 * 25 > 7 in floating point."""
    times = []

    def denoise(x, at):
        times.append(at.t)
        return DATA.denoise(x, at)

    vary(known.model(denoise, SCHEDULE, SHAPE), pixels(0.5, 0.4), strength, steps=steps, sampler="ddim")
    assert len(times) == taken


def test_a_model_of_latents_is_never_clipped():
    data = Gaussian((3.0, -4.0), (0.3, 0.5))
    latents = known.model(data.denoise, SCHEDULE, SHAPE)
    latents.sampling = replace(latents.sampling, clip=False)
    found = vary(latents, pixels(3.1, -4.2), 0.3, steps=10)
    torch.testing.assert_close(found[:, 0], pixels(3.1, -4.2), rtol=0, atol=1.0)


def test_variations_differ_by_their_noise_alone(exact):
    found = vary(exact, pixels(0.5, 0.4), 0.5, count=3, **OPTIONS)
    assert found.shape == (1, 3, *SHAPE)
    assert len(found.flatten(2).unique(dim=1)[0]) == 3
    again = vary(exact, torch.cat([pixels(0.5, 0.4)] * 3), 0.5, **OPTIONS)
    torch.testing.assert_close(again.reshape(3, 2), found.reshape(3, 2))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_blend_is_a_variation_of_the_mixture(exact, weight):
    """For Gaussian images the flow is affine, so blends of one noise lie on a line, with the variations at its ends."""
    first, second = pixels(0.5, 0.4), pixels(-0.3, 0.1)
    ends = [vary(exact, x0, 0.5, seed=1, **OPTIONS) for x0 in (first, second)]
    found = blend(exact, first, second, 0.5, weight=weight, seed=1, **OPTIONS)
    torch.testing.assert_close(found, (1 - weight) * ends[0] + weight * ends[1], rtol=1e-4, atol=1e-5)


def test_a_collage_takes_the_second_image_where_the_mask_is_one(exact):
    first, second = pixels(0.5, 0.4), pixels(-0.3, 0.1)
    found = blend(exact, first, second, 0.5, mask=torch.tensor([[0, 1]]), **OPTIONS)
    torch.testing.assert_close(found, vary(exact, pixels(0.5, 0.1), 0.5, **OPTIONS))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"second": torch.zeros(2, *SHAPE)}, "one shape"),
        ({"second": None}, "one shape; got .* and NoneType"),
        ({"weight": -0.1}, "The weight of a blend"),
        ({"mask": torch.ones(1, 3)}, "1 × 3 pixels"),
        ({"mask": torch.ones(1, 2) / 2}, "Threshold"),
        ({"mask": torch.ones(1, 2), "weight": 0.2}, "two ways to blend"),
        ({"strength": 0.0}, "changes nothing"),
        ({"labels": [0, 1]}, "without classes"),
        ({"first": torch.zeros(1, 1, 2, 2), "second": torch.zeros(1, 1, 2, 2)}, "must be a float tensor"),
        ({"first": pixels(float("nan"), 0.0)}, "must be finite"),
        ({"first": pixels(255.0, 0.0)}, r"not in \[-1, 1\]"),
    ],
)
def test_what_cannot_be_blended_is_refused(exact, changed, said):
    given: dict[str, Any] = {
        "first": pixels(0.5, 0.4),
        "second": pixels(0.0, 0.1),
        "strength": 0.5,
        "steps": 2,
        **changed,
    }
    with pytest.raises(UserError, match=said):
        blend(exact, **given)
