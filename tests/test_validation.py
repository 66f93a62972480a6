"""What training measures on the way is what `ddim evaluate` measures: the distance to held-out images, and copies."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ddim import open_images
from ddim.errors import UserError
from ddim.evaluate import score
from ddim.evaluate.copying import copies
from ddim.evaluate.features import take
from ddim.validation import Validation


class _Painter:
    """A model whose samples are given images."""

    classes, device = None, torch.device("cpu")

    def __init__(self, images):
        self.images, self.schedule = images, type("Schedule", (), {"N": 1000})

    def sample(self, count, **options):
        assert options["pixels"]
        return self.images.pixels[:count]


Painter: Any = _Painter


def first(images, count) -> Any:
    return take(images, torch.arange(count))


@pytest.fixture(scope="module")
def digits():
    train, test = open_images("digits"), open_images("digits", split="test")
    pixels = (images.pixels.float() * 255 / 16 for images in (train, test))  # from 17 grey levels
    return tuple(
        replace(one, pixels=levels.round().to(torch.uint8), grey_levels=256)
        for one, levels in zip((train, test), pixels, strict=True)
    )


def test_the_distance_is_that_of_an_evaluation(digits):
    train, test = digits
    model = Painter(train)
    validation = Validation(model, train, test)
    assert validation.metric == "frechet"
    assert validation.samples > validation.extractor.dim
    values = validation.measure(model)
    expected = score(train.pixels[: validation.samples], test, progress=False)
    assert values["frechet"] == pytest.approx(expected["frechet"], rel=1e-9)


def test_with_few_held_out_images_it_is_the_kernel_distance(digits):
    train, test = digits
    few = first(test, 12)
    validation = Validation(Painter(train), train, few)
    assert validation.describe()["metric"] == "kid"
    near, far = (
        validation.measure(Painter(images))["kid"] for images in (train, replace(train, pixels=255 - train.pixels))
    )
    assert near < far / 10
    with pytest.raises(UserError, match="has 9 held-out images, and the distance of samples to fewer than 10"):
        Validation(Painter(train), train, first(test, 9))


def test_copies_are_those_of_the_search_for_copies(digits):
    train, test = digits
    validation = Validation(Painter(train), first(train, 1000), test)
    others = take(train, torch.arange(1000, 1500))
    copied, honest = validation.measure(Painter(train)), validation.measure(Painter(others))
    assert copied["copies"] > 0.9
    assert copied["copies_p"] < 1e-12
    assert honest["copies_p"] > 0.001
    found = copies(others.pixels[: validation.samples], first(train, 1000), test, progress=False)
    assert honest["copies"] * validation.samples == found.flagged
    np.testing.assert_allclose((honest["copies_p"], honest["nearer"]), (found.p_value, found.nearer), rtol=1e-9)


def test_a_model_with_classes_draws_them_as_often_as_they_are_trained_on(model, digits):
    train, test = digits
    model.classes = 10
    validation = Validation(model, train, test)
    shares = validation.labels.bincount(minlength=10) / validation.samples
    torch.testing.assert_close(shares, train.labels.bincount(minlength=10) / len(train), rtol=0, atol=1 / 256)


def test_few_training_images_are_not_searched_for_copies(digits):
    train, test = digits
    values = Validation(Painter(train), first(train, 51), test).measure(Painter(train))
    assert "copies" in values
    values = Validation(Painter(train), first(train, 50), test).measure(Painter(train))
    assert set(values) == {"frechet"}
