"""Pixels are read in one way only, and features that were kept are those that would be computed."""

import numpy as np
import pytest
import torch

from damage import damaged, each_byte
from ddim import open_images
from ddim.data import Images, to_uint8
from ddim.errors import Notice, UserError
from ddim.evaluate import extractors
from ddim.evaluate.features import as_pixels, cached_features, features

LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)


class Counting:
    """An extractor that counts the images it sees: their mean and their first pixel."""

    name, about, fingerprint, shape, dim = "counting", "two features", "1", (1, 8, 8), 2

    def __init__(self):
        self.seen = 0

    def __call__(self, pixels):
        self.seen += len(pixels)
        return torch.stack([pixels.double().mean((1, 2, 3)), pixels[:, 0, 0, 0].double()], dim=1)


@pytest.fixture
def pixels():
    return torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_grey_level_comes_back_from_minus_one_to_one(dtype):
    images = (LEVELS.double() / 127.5 - 1).to(dtype)
    assert torch.equal(as_pixels(images), LEVELS)
    assert torch.equal(as_pixels(images.numpy()), LEVELS)


def test_pixels_are_taken_as_they_are():
    assert torch.equal(as_pixels(LEVELS), LEVELS)
    assert torch.equal(as_pixels(LEVELS.numpy()[..., ::-1]), LEVELS.flip(-1))
    images = Images(LEVELS, torch.zeros(1, dtype=torch.int64), ("one",), "levels")
    assert torch.equal(as_pixels(images), LEVELS)
    assert torch.equal(as_pixels(images.batch(torch.arange(1))[0]), LEVELS)


def test_few_grey_levels_are_spread_over_all():
    images = open_images("digits", split="test")
    found = as_pixels(images)
    assert found.unique().tolist() == [round(255 * v / 16) for v in range(17)]
    assert torch.equal(found, as_pixels(images.batch(torch.arange(len(images)))[0]))


def test_what_rounds_to_white_is_white():
    assert as_pixels(torch.tensor([-1.003, 1.003]).view(1, 1, 1, 2)).flatten().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.full((1, 1, 8, 8), float("nan")), "finite"),
        (torch.full((1, 1, 8, 8), float("inf")), "finite"),
        (torch.full((1, 1, 8, 8), -1.01), "clamp"),
        (torch.full((1, 1, 8, 8), 255.0), "as uint8"),
        (np.zeros((1, 1, 8, 8), np.int64), "int64"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int32), "int32"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.bool), "bool"),
        (np.zeros((2, 8, 8), np.uint8), r"\(N, C, H, W\)"),
        (torch.zeros(0, 1, 8, 8), "at least 1"),
    ],
)
def test_what_pixels_are_not_is_refused(images, reason):
    with pytest.raises(UserError, match=reason):
        as_pixels(images)


def test_images_that_look_like_zero_to_one_are_pointed_out():
    with pytest.warns(Notice, match="2 x - 1"):
        as_pixels(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("name", ["digits", "scattering"])
def test_the_same_pictures_have_the_same_features_in_any_form(name, pixels):
    chosen = extractors.get(name, (1, 8, 8))
    found = features(chosen, pixels)
    assert found.dtype == np.float64
    assert found.shape == (20, chosen.dim)
    images = pixels.float() / 127.5 - 1
    assert torch.equal(to_uint8(images), pixels)
    for same in (images, images.double().numpy(), pixels.numpy()):
        np.testing.assert_array_equal(features(chosen, same), found)


def test_batches_do_not_show(monkeypatch, pixels):
    chosen = extractors.get("scattering", (1, 8, 8))
    whole = features(chosen, pixels)
    monkeypatch.setattr("ddim.evaluate.features.BATCH_NUMBERS", 3 * 64)
    np.testing.assert_allclose(features(chosen, pixels), whole, rtol=0, atol=1e-12)


def test_another_shape_is_refused(pixels):
    with pytest.raises(UserError, match="of 1 × 8 × 8, and scattering was made for 1 × 9 × 8"):
        features(extractors.get("scattering", (1, 9, 8)), pixels)


def test_cached_features_are_computed_once(pixels):
    made = Counting()
    first, second = cached_features(made, pixels), cached_features(made, pixels)
    np.testing.assert_array_equal(first, features(Counting(), pixels))
    np.testing.assert_array_equal(second, first)
    assert made.seen == len(pixels)


def test_other_pixels_shapes_and_extractors_are_other_features(pixels):
    made = Counting()
    cached_features(made, pixels)
    changed = pixels.clone()
    changed[-1, 0, -1, -1] ^= 1
    assert not np.array_equal(cached_features(made, changed), cached_features(made, pixels))
    assert made.seen == 2 * len(pixels)
    made.fingerprint = "2"
    cached_features(made, pixels)
    assert made.seen == 3 * len(pixels)
    made.shape = (1, 4, 16)  # the same bytes
    cached_features(made, pixels.view(-1, 1, 4, 16))
    assert made.seen == 4 * len(pixels)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_is_made_anew(tmp_path, pixels, damage):
    made = Counting()
    right = cached_features(made, pixels)
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": data[:-8], "flipped": data, "empty": b"", "other": b"not a cache at all"}[damage])
    for _ in range(2):
        np.testing.assert_array_equal(cached_features(made, pixels), right)
    assert made.seen == 2 * len(pixels)


def test_a_flip_anywhere_is_noticed_or_changes_nothing(tmp_path, pixels):
    """This includes the dtype and the shape: the same bytes are also valid int64 numbers."""
    right = cached_features(Counting(), pixels)
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    whole = path.read_bytes()
    assert whole.count(b'"F64"') == 1
    assert whole.count(b"[20,2]") == 1
    forged = [whole.replace(b'"F64"', b'"I64"'), whole.replace(b"[20,2]", b"[2,20]")]
    for data in (*forged, *(data for _, data in each_byte(whole, range(0, len(whole), 19))), *damaged(whole, 40)):
        path.write_bytes(data)
        found = cached_features(Counting(), pixels)
        np.testing.assert_array_equal(found, right, strict=True)


def test_without_a_place_to_keep_them_there_are_features_still(monkeypatch, tmp_path, pixels):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(cached_features(Counting(), pixels), features(Counting(), pixels))
