"""scikit-learn's digits: every image once, and a held-out part that stays the same."""

import hashlib

import torch
from sklearn.datasets import load_digits

from ddim.data import digits


def test_both_parts_together_are_the_whole_set_in_17_grey_levels():
    train, test = digits.load("train"), digits.load("test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.shape == (1, 8, 8)
    assert train.grey_levels == 17
    both = torch.cat([train.pixels, test.pixels]).flatten(1)
    labels = torch.cat([train.labels, test.labels])
    rows = sorted(torch.cat([both, labels[:, None]], dim=1).tolist())
    pixels, targets = load_digits(return_X_y=True)
    assert rows == sorted([*map(int, row), int(target)] for row, target in zip(pixels, targets, strict=True))
    assert both.max() == 16


def test_the_split_is_frozen_and_mixes_all_classes():
    """Results of different runs compare only if the held-out images are the same for ever."""
    test = digits.load("test")
    assert hashlib.sha256(test.pixels.numpy().tobytes()).hexdigest()[:16] == "e4d90ea0d9a98afc"
    assert test.labels.bincount(minlength=10).min() >= 25
