"""Grey levels and numbers, choosing classes, resizing."""

import numpy as np
import pytest
import torch

from ddim.data import Images, to_uint8
from ddim.data.images import class_indices
from ddim.errors import UserError
from ddim.train import Plan, fit


def images(grey_levels: int = 256) -> Images:
    """Four images in classes Cat, dog, emu (of which there is none), fox."""
    pixels = torch.arange(4 * 3 * 5 * 6).remainder(grey_levels).to(torch.uint8).view(4, 3, 5, 6)
    return Images(
        pixels=pixels,
        labels=torch.tensor([3, 0, 1, 0]),
        classes=("Cat", "dog", "emu", "fox"),
        name="zoo",
        grey_levels=grey_levels,
    )


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_grey_levels_span_minus_one_to_one_exactly_and_evenly(levels):
    ramp = torch.arange(levels).to(torch.uint8).view(levels, 1, 1, 1)
    x, _ = Images(ramp, torch.zeros(levels).long(), ("0",), "ramp", grey_levels=levels).batch(torch.arange(levels))
    assert x[0].item() == -1
    assert x[-1].item() == 1
    torch.testing.assert_close(x.flatten(), torch.linspace(-1, 1, levels), rtol=0, atol=2e-7)


def test_display_gives_back_every_grey_level_and_clamps_what_is_outside():
    levels = torch.arange(256).to(torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255 * 2 - 1), levels)
    assert to_uint8(torch.tensor([-7.0, -1.003, 1.003, 7.0])).tolist() == [0, 0, 255, 255]


def test_one_image_is_the_same_alone_and_in_a_batch():
    zoo = images()
    assert len(zoo) == 4
    assert zoo.shape == (3, 5, 6)
    x, labels = zoo.batch(torch.tensor([2, 0]))
    assert x.dtype == torch.float32
    assert labels.tolist() == [1, 3]
    image, label = zoo[2]
    assert torch.equal(image, x[0])
    assert label == 1
    with pytest.raises(IndexError):
        zoo[4]


def test_selected_classes_are_relabelled_in_the_order_asked():
    zoo = images()
    chosen = zoo.select(["FOX", "cat"])
    assert chosen.classes == ("fox", "Cat")
    assert chosen.labels.tolist() == [0, 1, 1]
    assert torch.equal(chosen.pixels, zoo.pixels[[0, 1, 3]])
    assert zoo.select("fox, cat").labels.tolist() == chosen.labels.tolist()


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("cat,cow", "no class 'cow'; zoo has Cat, dog, emu, fox"),
        ("cat,Cat", "'cat' was given twice"),
        ("emu", "no image of class 'emu'"),
        ("", "No class was given"),
        ([], "No class was given"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(classes, reason):
    with pytest.raises(UserError, match=reason):
        images().select(classes)


def test_numbers_name_the_classes_of_digits():
    digits = Images(torch.zeros(2, 1, 1, 1).byte(), torch.tensor([3, 8]), tuple("0123456789"), "digits")
    assert digits.select([8, "3"]).labels.tolist() == [1, 0]


def test_resizing_keeps_a_flat_image_flat_and_maps_17_levels_to_256():
    pixels = torch.tensor([0, 4, 16]).byte().view(3, 1, 1, 1).expand(3, 1, 8, 8)
    small = Images(pixels, torch.arange(3), ("a", "b", "c"), "flat", grey_levels=17)
    for size in (4, 20):
        resized = small.resized(size)
        assert resized.shape == (1, size, size)
        assert resized.grey_levels == 256
        assert [image.unique().tolist() for image in resized.pixels] == [[0], [64], [255]]
    assert small.resized(8) is small


def test_resizing_does_not_wrap_around_where_bicubic_overshoots():
    edge = torch.zeros(1, 1, 8, 8).byte()
    edge[..., 4:] = 255
    resized = Images(edge, torch.zeros(1).long(), ("a",), "edge").resized(32).pixels[0, 0, 0].int()
    assert resized[:14].max() < 10
    assert resized[-14:].min() > 245


def test_shrinking_averages_a_fine_pattern_instead_of_picking_pixels_from_it():
    stripes = torch.tensor([0, 255] * 4 + [0]).byte().expand(1, 1, 9, 9)  # every third: 255, 0, 255
    shrunk = Images(stripes, torch.zeros(1).long(), ("a",), "stripes").resized(3).pixels[0, 0, 0].int()
    assert 60 < shrunk.min() <= shrunk.max() < 200


def test_a_size_below_one_is_refused():
    with pytest.raises(UserError, match="resized to 0"):
        images().resized(0)


def mine(pixels=None, labels=None, classes=("a", "b"), **options):
    """Four grey images of 8 x 8 pixels, unless said otherwise."""
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8) if pixels is None else pixels
    return Images(pixels, torch.tensor([0, 1, 1, 0]) if labels is None else labels, classes, "mine", **options)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"pixels": torch.rand(4, 1, 8, 8)},
            r"uint8, .* got torch.float32: open arrays by ddim.open_images",
        ),
        ({"pixels": torch.zeros(4, 1, 8, 8, dtype=torch.int64)}, "must be uint8, .* got torch.int64"),
        (
            {"pixels": np.zeros((4, 1, 8, 8), np.uint8)},
            "pixels of Images must be a torch tensor; got ndarray: .*from_nu",
        ),
        ({"pixels": torch.zeros(4, 8, 8, 3).byte()}, r"got \(4, 8, 8, 3\): reorder by pixels.permute\(0, 3, 1, 2\)"),
        ({"pixels": torch.zeros(4, 8, 8).byte()}, r"shape \(N, C, H, W\), .* got \(4, 8, 8\): add .*unsqueeze\(1\)"),
        (
            {"pixels": torch.zeros(0, 1, 8, 8).byte(), "labels": torch.zeros(0).long()},
            r"at least one image; got \(0, 1",
        ),
        ({"labels": [0, 1, 1, 0]}, "labels of Images must be a torch tensor; got list: .*a list by torch.tensor"),
        ({"labels": torch.tensor([0, 1, 1])}, r"one integer label for each image, of shape \(4,\); got .* \(3,\)"),
        ({"labels": torch.zeros(4)}, "one integer label .* got torch.float32"),
        ({"labels": torch.zeros(4).bool()}, "one integer label .* got torch.bool"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, "classes, of which there are 2; got labels from 0 to 2"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, "classes, of which there are 2; got labels from -1 to 1"),
        ({"classes": "ab"}, "must be a tuple of names, .* got 'ab'"),
        ({"classes": (0, 1)}, r"must be a tuple of names, .* got \(0, 1\)"),
        ({"grey_levels": 257}, "from 2 to 256; got 257"),
        ({"grey_levels": 1}, "from 2 to 256; got 1"),
    ],
)
def test_what_is_no_set_of_images_is_refused_with_the_remedy(given, reason):
    with pytest.raises(UserError, match=reason):
        mine(**given)


def test_labels_of_any_integers_and_classes_in_a_list_are_taken():
    images = mine(labels=torch.tensor([0, 1, 1, 0], dtype=torch.int32), classes=["a", "b"])
    assert (images.labels.dtype, images.classes) == (torch.int64, ("a", "b"))
    assert mine(pixels=torch.zeros(4, 3, 3, 3).byte()).shape == (3, 3, 3)


def test_the_remedies_give_the_images_that_were_meant():
    x = torch.rand(4, 8, 8, 3)  # in [0, 1], channels last
    images = mine(pixels=to_uint8(2 * x.permute(0, 3, 1, 2) - 1))
    torch.testing.assert_close(images.batch(torch.arange(4))[0], 2 * x.permute(0, 3, 1, 2) - 1, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize("given", ["mnist", iter([torch.zeros(1, 8, 8)]), {"images": torch.zeros(4, 1, 8, 8)}, 3])
def test_training_takes_images_arrays_and_data_sets_only(model, given):
    with pytest.raises(UserError, match=f"Images are a ddim.data.Images, a NumPy .* got {type(given).__name__}"):
        next(fit(model, given, Plan(steps=1)))


@pytest.mark.parametrize(
    ("selected", "labels"),
    [
        ("red, round", [1]),
        ("RED, ROUND", [1]),
        ("blue,red, round", [0, 1]),
        ("red, round,blue", [1, 0]),
        (["red, round"], [1]),
        ("a,b,c", [2]),
        ("c,a,b", [5, 3, 4]),
        ("a,c", [3, 5]),
    ],
)
def test_a_class_with_commas_in_its_name_can_be_chosen(selected, labels):
    assert class_indices(selected, ("blue", "red, round", "a,b,c", "a", "b", "c"), "shapes") == labels


def test_classes_that_are_no_names_are_refused():
    with pytest.raises(UserError, match="or as a list; got 3"):
        mine().select(3)
