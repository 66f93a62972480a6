"""Copies: planted ones are found, honest images are not, and the statistics are what they are called."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

import ddim
from ddim.data import to_uint8
from ddim.errors import UserError
from ddim.evaluate import Memorisation, copies
from ddim.evaluate.copying import flag, nearer_share, nearest, ratio

needs_real_data = pytest.mark.skipif(
    not os.environ.get("DDIM_DATA"), reason="set DDIM_DATA to a folder with MNIST and CIFAR-10"
)


@pytest.fixture(scope="module")
def digits():
    """600 digits to train on, 400 to hold out, 400 that are honest samples."""
    images = ddim.open_images("digits")
    bounds = ((0, 600), (600, 1000), (1000, 1400))
    return [replace(images, pixels=images.pixels[a:b], labels=images.labels[a:b]) for a, b in bounds]


def levels(images):
    """(N, C, H, W) uint8 in 256 levels."""
    return to_uint8(images.batch(torch.arange(len(images)))[0])


def moved(pixels, strength):
    """Each grey level off by about `strength` of 255."""
    noise = np.random.default_rng(0).normal(0, strength, pixels.shape)
    return (pixels + torch.from_numpy(noise)).round().clamp(0, 255).to(torch.uint8)


def test_honest_images_are_no_copies(digits):
    training, held_out, honest = digits
    found = copies(levels(honest), training, held_out, progress=False)
    assert found.flagged <= 4
    assert found.p_value > 0.05
    assert found.expected == pytest.approx(400 / 401)
    assert found.nearer_low < 0.5 < found.nearer_high


@pytest.mark.parametrize("kind", ["exact", "noisy", "mirrored"])
def test_planted_copies_are_found(digits, kind):
    training, held_out, honest = digits
    samples, planted = levels(honest), levels(training)[:12]
    if kind == "noisy":
        planted = moved(planted, 8)
    if kind == "mirrored":
        planted, held_out = planted.flip(-1), replace(held_out, pixels=held_out.pixels.flip(-1))
        samples = samples.flip(-1)
    samples[100:112] = planted
    found = copies(samples, training, held_out, mirror=kind == "mirrored", progress=False)
    assert found.flagged >= 12
    assert found.p_value < 0.001
    assert {one.sample for one in found.suspects} == set(range(100, 112))
    for one in found.suspects:
        assert one.neighbours[0] == one.sample - 100
        assert one.mirrored[0] == (kind == "mirrored")
        assert (one.distance == 0) == (kind != "noisy")
    pictures = found.pictures(samples, training)
    assert pictures["samples"].shape == (12, 1, 8, 8)
    assert pictures["neighbours"].shape == (12, 3, 1, 8, 8)
    if kind != "noisy":
        assert torch.equal(pictures["samples"], pictures["neighbours"][:, 0])


def test_mirrored_copies_pass_where_nothing_is_mirrored(digits):
    training, held_out, honest = digits
    samples = torch.cat([levels(honest), levels(training)[:12].flip(-1)])
    assert copies(samples, training, held_out, progress=False).flagged <= 4


def test_a_model_that_draws_nothing_but_training_images(digits):
    training, held_out, _ = digits
    found = copies(levels(training)[:200], training, held_out, progress=False)
    assert found.nearer == 1
    assert found.flagged == 200


@pytest.mark.parametrize(
    ("held_out", "said"), [(300, "any of 300"), (1000, "all but 1 of 1,000"), (2500, "all but 2 of 2,500")]
)
def test_the_level_is_told_as_it_was_set(held_out, said):
    """By as many held-out images as there are: so many of them lie below it."""
    honest = np.random.default_rng(0).random(held_out)
    level, flagged, expected, p = flag(honest[:100], honest)
    below = int((honest < level).sum())
    assert said.startswith("any" if below == 0 else f"all but {below} ")
    found = Memorisation(100, 600, held_out, level, flagged, expected, p, 0.5, 0.4, 0.6, ())
    assert f"of 600 training images than {said} held-out images" in next(found.lines())


@needs_real_data
def test_copies_of_mnist():
    training, test = ddim.open_images("mnist"), ddim.open_images("mnist", split="test")
    training = replace(training, pixels=training.pixels[:10_000], labels=training.labels[:10_000])
    held_out = replace(test, pixels=test.pixels[:1500], labels=test.labels[:1500])
    honest = test.pixels[1500:1900]
    samples = torch.cat([honest, moved(training.pixels[:20], 12)])
    assert copies(honest, training, held_out, progress=False).p_value > 0.05
    found = copies(samples, training, held_out, progress=False)
    assert found.flagged >= 20
    assert {one.sample for one in found.suspects} <= set(range(400, 420))


def test_the_nearest_by_brute_force(digits, monkeypatch):
    training, _, honest = (levels(one)[:150] for one in digits)
    x, y = (one.flatten(1).double() / 127.5 - 1 for one in (honest, training))
    apart = (x[:, None] - y).square().mean(-1).sqrt()
    flipped = (x[:, None] - (training.flip(-1).flatten(1).double() / 127.5 - 1)).square().mean(-1).sqrt()
    monkeypatch.setattr("ddim.evaluate.copying.BLOCK", 40)
    monkeypatch.setattr("ddim.evaluate.copying.ROWS", 70)
    for mirror, expected in ((False, apart), (True, torch.minimum(apart, flipped))):
        found = nearest(honest, training, 5, mirror)
        np.testing.assert_allclose(found.distances, expected.sort(1).values[:, :5], rtol=1e-12)
        rows = torch.arange(150)[:, None]
        np.testing.assert_allclose(expected[rows, torch.from_numpy(found.indices)], found.distances, rtol=1e-12)
        there = torch.where(torch.from_numpy(found.mirrored), flipped[rows, found.indices], apart[rows, found.indices])
        np.testing.assert_allclose(there, found.distances, rtol=1e-12)


def test_the_share_of_pairs():
    """Mann and Whitney's U, and a standard error that is that of new draws."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 30).astype(float), rng.integers(2, 22, 40).astype(float)
    pairs = np.mean([(one < other) + (one == other) / 2 for one in a for other in b])
    assert nearer_share(a, b)[0] == pytest.approx(pairs)
    assert nearer_share(a, b)[0] == pytest.approx(mannwhitneyu(b, a).statistic / (30 * 40))
    drawn = [nearer_share(rng.standard_normal(60), rng.standard_normal(80) + 0.5) for _ in range(2000)]
    assert np.mean([error for _, error in drawn]) == pytest.approx(np.std([share for share, _ in drawn]), rel=0.05)


def test_the_p_value_of_honest_images_is_no_smaller_than_it_says():
    """Of ratios that are drawn alike no more than 1 in 20 have p <= 0.05, and as many are flagged as expected."""
    rng = np.random.default_rng(0)
    for held_out in (300, 2500):
        found = [flag(rng.random(500), rng.random(held_out)) for _ in range(2000)]
        assert np.mean([p <= 0.05 for *_, p in found]) <= 0.05 + 3 * np.sqrt(0.05 / 2000)
        flagged, expected = np.array([one[1] for one in found]), found[0][2]
        assert flagged.mean() == pytest.approx(expected, abs=4 * flagged.std() / np.sqrt(2000))
        undercut = [(np.sort(one) < flag(one, one)[0]).mean() for one in rng.random((20, held_out))]
        assert max(undercut) <= 1 / 1000


def test_images_that_are_all_one_are_no_nearer_to_one(digits):
    flat = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    assert ratio(nearest(flat, torch.zeros(60, 1, 8, 8, dtype=torch.uint8), 51)).tolist() == [1, 1, 1]


def test_requests_that_cannot_be(digits):
    training, held_out, honest = digits
    few = replace(training, pixels=training.pixels[:50], labels=training.labels[:50])
    with pytest.raises(UserError, match="more than 50 training images"):
        copies(levels(honest), few, held_out, progress=False)
    with pytest.raises(UserError, match="differ in shape"):
        copies(torch.zeros(5, 1, 9, 9) - 1, training, held_out, progress=False)
