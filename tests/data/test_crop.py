"""Which part of an image is kept: at the centre, at random, or all of it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ddim import open_images
from ddim.data import Images
from ddim.data.crop import bring, placed
from ddim.data.decode import decode

SIDES = [((40, 60), (32, 32)), ((60, 40), (32, 48)), ((7, 100), (32, 48)), ((33, 47), (8, 8)), ((1, 1), (4, 9))]


@pytest.mark.parametrize("crop", ["centre", "random"])
@pytest.mark.parametrize(("sides", "size"), SIDES)
def test_a_window_lies_within_the_image_has_the_aspect_asked_for_and_is_the_largest(sides, size, crop):
    where = placed(sides, size, crop, "fedcba9876543210")
    for corner, part, side in zip(where.corner, where.part, sides, strict=True):
        assert 0 <= corner <= side - part
    scale = min(side / wanted for side, wanted in zip(sides, size, strict=True))
    assert where.part == pytest.approx([max(1, wanted * scale) for wanted in size], abs=0.5)
    assert (where.size, where.at) == (size, (0, 0))


def test_the_centre_is_in_the_middle_and_random_windows_are_everywhere():
    assert placed((32, 64), (8, 8)).corner == (0, 16)
    corners = {placed((32, 64), (8, 8), "random", f"{i:02x}").corner[1] for i in range(256)}
    assert corners == set(range(33))


@pytest.mark.parametrize(("sides", "size"), SIDES)
def test_fit_keeps_all_of_an_image_and_touches_two_edges(sides, size):
    where = placed(sides, size, "fit")
    assert (where.corner, where.part) == ((0, 0), sides)
    assert any(inner == outer for inner, outer in zip(where.size, size, strict=True))
    assert all(
        inner + 2 * at in (outer, outer - 1) for inner, at, outer in zip(where.size, where.at, size, strict=True)
    )


@pytest.mark.parametrize(
    ("crop", "red"),  # of a picture of 20 x 40 pixels with a red square at its left
    [("centre", [0, 0, 0, 0]), ("fit", [1, 0, 0, 0])],
)
def test_pictures_and_tensors_are_cropped_alike(crop, red):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10, 0] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = decode(file, (16, 16), crop).pixels
    tensor = bring(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1, (16, 16), crop)[0]
    np.testing.assert_allclose((tensor + 1) * 127.5, found, atol=9)  # Pillow looks at what lies beside the window
    assert [int(found[0, 8, x] > 200) for x in (1, 5, 9, 14)] == red
    if crop == "fit":
        assert not found[:, :4].any()
        assert not found[:, -4:].any()


def test_a_random_window_is_the_same_at_each_opening_and_another_for_each_image(tmp_path):
    wave = np.random.default_rng(0).integers(0, 255, 200).cumsum().astype(np.uint8)
    for i in range(12):
        wave[0] = i  # else the files would be copies
        Image.fromarray(np.broadcast_to(wave, (8, 200)).copy()).save(tmp_path / f"{i:02d}.png")
    images = open_images(tmp_path, size=8, crop="random")
    assert torch.equal(images.pixels, open_images(tmp_path, size=8, crop="random").pixels)
    assert len({image.numpy().tobytes() for image in images.pixels}) > 8
    assert len({image.numpy().tobytes() for image in open_images(tmp_path, size=8).pixels}) == 1


def test_a_set_of_other_aspect_is_cropped_not_stretched():
    pixels = torch.zeros(3, 1, 8, 16, dtype=torch.uint8)
    pixels[..., 4:12] = 255
    images = Images(pixels, torch.zeros(3).long(), ("a",), "wide")
    assert images.resized(8).pixels.eq(255).all()
    assert images.resized("4x8", "fit").pixels.int().sub(pixels[:, :, ::2, ::2].int()).abs().max() < 20
    assert images.resized(8, "fit").pixels[:, :, :2].eq(0).all()
