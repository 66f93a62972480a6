"""What the data sets allow, and how a text changes it."""

from dataclasses import replace

import pytest
import torch

from ddim import open_images
from ddim.data.augmentations import HANDWRITING, LARGEST, PHOTOGRAPHS, SHAPE, Strength, in_words, parse, resolve
from ddim.data.images import Images
from ddim.errors import UserError


def test_digits_are_neither_mirrored_nor_coloured_and_little_rotated():
    digits = open_images("digits")
    found = resolve(digits.augmentations, 1)
    assert found.keys() == {"scale", "rotate", "stretch", "shift"}
    assert found["rotate"].strength <= 15
    assert replace(digits, name="other").augmentations is HANDWRITING
    assert digits.select("3,8").augmentations is digits.resized(4).augmentations is HANDWRITING


def test_of_unknown_images_only_the_shape_changes():
    images = Images(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ("a",), "a")
    assert images.augmentations is SHAPE
    assert resolve(SHAPE, 5) == SHAPE


def test_colour_is_left_out_where_there_is_none():
    assert "saturation" in resolve(PHOTOGRAPHS, 3)
    assert "saturation" not in resolve(PHOTOGRAPHS, 1)
    assert "brightness" in resolve(PHOTOGRAPHS, 1)
    assert not {"brightness", "contrast", "saturation"} & resolve(PHOTOGRAPHS, 4).keys()
    assert resolve(HANDWRITING, 1, "hue=0") == resolve(HANDWRITING, 1)  # asks for nothing


def test_changes_replace_single_strengths():
    found = resolve(HANDWRITING, 1, " rotate=30:0.5, shift=0 ,mirror=1")
    assert list(found) == ["mirror", "scale", "rotate", "stretch"]  # always in the same order
    assert (found["rotate"], found["scale"]) == (Strength(30.0, 0.5), SHAPE["scale"])
    assert in_words(found) == "mirror 1, scale 0.2, rotate 30 (probability × 0.5), stretch 0.2"
    assert parse("") == {}


@pytest.mark.parametrize("text", ["rotate", "rotate=", "rotate=181", "rotate=nan", "shift=0.6", "flip=1:2"])
def test_a_strength_out_of_range_is_refused(text):
    name = text.partition("=")[0]
    with pytest.raises(UserError, match=f"The augmentation {name} takes a strength from 0 to {LARGEST[name]:g}"):
        parse(text)
    with pytest.raises(UserError, match="after a colon a factor"):
        parse("scale=0.1:0.5:2")


@pytest.mark.parametrize(("channels", "kind"), [(1, "grey"), (4, "of 4 channels")])
def test_colour_of_images_without_colour_is_refused(channels, kind):
    with pytest.raises(UserError, match=f"The images are {kind}, for which hue, saturation have no meaning"):
        resolve(SHAPE, channels, "hue=20,saturation=1,scale=0.1")
    with pytest.raises(UserError, match=r"no augmentation 'rotat' \(did you mean 'rotate'\?\)"):
        resolve(SHAPE, channels, "rotat=20")
