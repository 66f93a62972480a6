"""The samples of an evaluation: how many there may be, and how often each class is drawn."""

import numpy as np
import pytest
import torch

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate import labels_like, samples
from ddim.schedule import linear


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
    labels, words = samples.labels_for(model, three, 60)
    assert labels is not None
    assert (labels.bincount().tolist(), words) == ([30, 20, 10], "as often as in the reference")
    assert samples.labels_for(model, three, 60, ["0", "1", "2"])[1] == "as often as in the reference"
    assert samples.labels_for(model, three, 60, ["cat", "dog", "owl"]) == (None, "all in turn")
    assert samples.labels_for(model, labelled(3, 2), 60) == (None, "all in turn")
    assert samples.labels_for(Denoiser(ByLabel(), linear(), "x0", (1, 2, 2)), three, 60) == (None, "")


def test_a_number_of_samples_that_no_evaluation_can_hold_is_refused():
    samples.check_count(samples.MOST)
    with pytest.raises(UserError, match="at most 1,000,000 samples, got 1,000,000,000"):
        samples.check_count(10**9)
