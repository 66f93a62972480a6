"""The real images, features and classes that an evaluation takes: by the number of images and their classes."""

import warnings

import numpy as np
import pytest
import torch

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.evaluate import labels_like
from ddim.evaluate.real import labels_for, of_splits, of_whole
from ddim.evaluate.scoring import measure
from ddim.schedule import linear


def images(count, split, channels=3):
    pixels = torch.randint(256, (count, channels, 8, 8), generator=torch.Generator().manual_seed(count))
    return Images(pixels.to(torch.uint8), torch.zeros(count, dtype=torch.long), ("x",), "photos", split)


def splits(train, test):
    return images(train, "train"), images(test, "test")


def test_enough_held_out_images_are_the_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        real = of_splits(*splits(1000, 121))
    assert (real.reference.split, real.extractor.name, real.draw, real.count) == ("test", "scattering", 666, 1000)
    assert real.facts() == {"name": "photos", "split": "test", "images": 121, "shape": [3, 8, 8]}


@pytest.mark.parametrize(
    ("train", "test", "chosen", "said"),
    [
        (242, 15, ("train", "scattering", 121), "15 held-out images, too few for the 120 features of scattering"),
        (190, 10, ("train", "scattering-small", 95), "the 190 training images, by the 24 features of scattering-small"),
        (100, 100, ("test", "scattering-small", 66), "compared with them, by the 24 features of scattering-small"),
        (50, 1, ("train", "scattering-small", 25), "photos has 1 held-out image, too few"),
    ],
)
def test_few_images_choose_what_works_and_say_so(train, test, chosen, said):
    with pytest.warns(Notice) as notices:
        real = of_splits(*splits(train, test))
    (notice,) = notices
    assert (real.reference.split, real.extractor.name, real.draw) == chosen
    assert said in str(notice.message)
    assert ("Copies of training images" in str(notice.message)) == (chosen[0] == "train")
    assert real.facts()["notice"] == str(notice.message)
    found = measure(images(real.count, "samples"), real.reference, extractor=real.extractor, real=real.others)
    assert (found.count, found.floor_count) == (real.draw, real.draw)


def test_what_the_user_names_is_used():
    train, test = splits(190, 10)
    named = of_splits(train, test, split="test")
    assert (named.reference.split, named.extractor.name) == ("test", "scattering")
    more, few = splits(300, 15)
    with pytest.warns(Notice, match="15 held-out images"):
        assert of_splits(more, few, extractor="scattering").reference.split == "train"
    with pytest.raises(UserError, match=r"190 training images, too few to evaluate .* 120 features of scattering need"):
        of_splits(train, test, extractor="scattering")


def test_too_few_images_are_refused_with_the_numbers_of_both_sides():
    with pytest.raises(UserError, match=r"1 held-out image and 49 training images, too few to .* need 50"):
        of_splits(*splits(49, 1))
    with pytest.raises(UserError, match="photos has 49 images, too few"):
        of_whole(images(49, "all"))


def test_a_folder_that_is_used_whole_has_the_same_choice():
    with pytest.warns(Notice, match="photos has 200 images, too few for the 120 .* compared with them, by the 24"):
        real = of_whole(images(200, "all"))
    assert (real.extractor.name, real.draw) == ("scattering-small", 100)


def labelled(*counts):
    """A data set with so many images of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Images(
        torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, tuple(map(str, range(len(counts)))), "x"
    )


@pytest.mark.parametrize("counts", [(130, 13), (1, 2, 3, 4), (900, 11, 11, 11, 11, 11), (5, 0, 1), (7,)])
def test_every_beginning_of_the_labels_has_the_shares_of_the_images(counts):
    labels = labels_like(labelled(*counts), 500).numpy()
    drawn = np.cumsum(np.eye(len(counts))[labels], axis=0)
    wanted = np.arange(1, 501)[:, None] * np.array(counts) / sum(counts)
    assert abs(drawn - wanted).max() <= 1.1
    assert np.array_equal(labels[:60], labels_like(labelled(*counts), 60))


def test_classes_of_equally_many_images_come_in_turn():
    assert labels_like(labelled(20, 20, 20), 10).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


class ByLabel(torch.nn.Module):
    """A network with classes."""

    def forward(self, x, t, label=None):
        return x


def test_labels_for_a_model_need_its_classes():
    model = Denoiser(ByLabel(), linear(), "x0", (1, 2, 2), 3)
    three = labelled(3, 2, 1)
    labels, words = labels_for(model, three, 60)
    assert labels is not None
    assert (labels.bincount().tolist(), words) == ([30, 20, 10], "as often as in the reference")
    assert labels_for(model, three, 60, ["0", "1", "2"])[1] == "as often as in the reference"
    assert labels_for(model, three, 60, ["cat", "dog", "owl"]) == (None, "all in turn")
    assert labels_for(model, labelled(3, 2), 60) == (None, "all in turn")
    assert labels_for(Denoiser(ByLabel(), linear(), "x0", (1, 2, 2)), three, 60) == (None, "")
