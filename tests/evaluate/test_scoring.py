"""A score as a whole: on real digits, worse images score worse, and real ones as real ones do."""

import functools
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

import ddim
from ddim.data import to_uint8
from ddim.errors import UserError
from ddim.evaluate import Classifier, Evaluation, Metric, get, measure, score
from ddim.evaluate.features import as_pixels, features
from ddim.evaluate.frechet import frechet, frechet_error, gaussian
from ddim.evaluate.kid import kid, kid_error
from ddim.evaluate.metrics import LIMITS, Reference, floor_of_others
from ddim.evaluate.scoring import RESAMPLES

needs_real_data = pytest.mark.skipif(
    not os.environ.get("DDIM_DATA"), reason="set DDIM_DATA to a folder with MNIST and CIFAR-10"
)


class Pixels:
    """An extractor of a few numbers: the mean grey of each of 16 parts of a digit of 8x8."""

    name, about, fingerprint, shape, dim = "parts", "the mean grey of 16 parts", "parts 1", (1, 8, 8), 16

    def __call__(self, pixels):
        return avg_pool2d(pixels.double() / 255, 2).flatten(1)


@pytest.fixture(scope="module")
def digits():
    """1,500 digits in [-1, 1] in three sets of 500."""
    return ddim.open_images("digits").batch(torch.arange(1500))[0].split(500)


def of(samples, reference, **options):
    return score(samples, reference, extractor=Pixels(), progress=False, **options)


def test_real_digits_score_as_real_digits(digits):
    samples, reference, real = digits
    found = of(samples, reference, real=real)
    for name in LIMITS:
        assert found[f"{name}_floor_low"] <= found[name] <= found[f"{name}_floor_high"], name
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    halved = of(samples, reference)  # no others: the reference is split
    assert halved["frechet"] == found["frechet"]
    assert halved["frechet_floor"] > found["frechet_floor"]
    assert [found[name] for name in ("count", "reference_count", "floor_count")] == [500, 500, 333]


def test_only_as_many_real_images_vouch_for_samples(digits):
    """Real digits, of which a floor of fewer, or against fewer, would say that they are real too easily."""
    samples, reference, real = digits
    of_pixels = functools.partial(measure, extractor=Pixels(), progress=False)
    alike = of_pixels(samples[:300], reference, real=real)
    fewer = of_pixels(samples, reference, real=real)
    halved = of_pixels(samples[:200], reference)
    assert [(one.floor_count, one.floor_reference_count) for one in (alike, fewer, halved)] == [
        (300, 500),
        (333, 500),
        (200, 300),
    ]
    assert alike.at_floor("frechet")
    assert "fewer images have larger distances" not in alike.floor
    for one in (fewer, halved):
        metric = one.metrics["frechet"]
        assert metric.value < metric.floor_high  # and yet
        assert not any(map(one.at_floor, LIMITS))
        assert "as real images" not in "\n".join(one.lines())
        assert list(one.lines())[-1].endswith("; fewer images have larger distances.")


def noisy(images, strength):
    return (images + strength * torch.from_numpy(np.random.default_rng(0).standard_normal(images.shape))).clamp(-1, 1)


def blurred(images, strength):
    around = avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return (1 - strength) * images + strength * around


@pytest.mark.parametrize("worse", [noisy, blurred])
def test_the_worse_the_images_the_further_they_are(digits, worse):
    samples, reference, real = digits
    found = [
        score(worse(samples, strength), reference, real=real, extractor="digits", progress=False)
        for strength in (0, 0.2, 0.4, 0.6, 0.8)
    ]
    for name in ("frechet", "kid"):
        values = [one[name] for one in found]
        assert values == sorted(values), name
        assert found[0][name] <= found[0][f"{name}_floor_high"]
        assert found[-1][name] > found[0][f"{name}_floor_high"]


def test_the_more_classes_are_missing_the_further_the_images_are():
    images = ddim.open_images("digits")
    half, other = (replace(images, pixels=images.pixels[i::2], labels=images.labels[i::2]) for i in (0, 1))
    fewer = [half.select(range(10 - missing)) for missing in (0, 2, 4, 6)]
    found = [score(as_pixels(one)[:290], other, progress=False) for one in fewer]
    for name, sign in (("frechet", 1), ("kid", 1), ("recall", -1), ("coverage", -1)):
        values = [sign * one[name] for one in found]
        assert values == sorted(values), name


def test_missing_classes_cost_no_precision():
    """Samples of either five classes are, on average, as precise as those of all ten."""
    images = ddim.open_images("digits")
    half, other = (replace(images, pixels=images.pixels[i::2], labels=images.labels[i::2]) for i in (0, 1))
    sets = [as_pixels(one)[:360] for one in (half, half.select(range(5)), half.select(range(5, 10)))]
    whole, *parts = (score(one, other, progress=False) for one in sets)
    for name, kept in (("precision", 1), ("recall", 0.5), ("coverage", 0.5)):
        assert np.mean([one[name] for one in parts]) == pytest.approx(kept * whole[name], abs=0.05), name


def test_the_same_pictures_score_the_same_however_they_are_given(digits):
    samples, reference, real = digits
    once = of(to_uint8(samples), to_uint8(reference), real=to_uint8(real))
    assert of(samples, reference, real=real) == once
    assert of(samples.numpy(), reference.double(), real=real) == once


def test_one_image_over_and_over(digits):
    """A sampler that knows one picture: it may be a good one, and there is nothing else."""
    _, reference, real = digits
    found = of(reference[:1].expand(100, -1, -1, -1), reference, real=real)
    assert all(np.isfinite(list(found.values())))
    assert found["precision"] == 1
    assert found["recall"] < 0.02
    assert found["coverage"] < 0.2
    assert found["frechet"] > found["frechet_floor_high"]


def test_neither_order_nor_batches_matter(digits):
    samples, reference, _ = digits
    found, again = of(samples, reference), of(samples.flip(0), reference)
    for name in LIMITS:
        assert again[name] == pytest.approx(found[name], rel=1e-9), name


def test_the_seed_moves_intervals_and_floors_alone(digits):
    samples, reference, real = digits
    found, again = of(samples, reference, real=real), of(samples, reference, real=real, seed=1)
    for name in LIMITS:
        assert again[name] == found[name]
    assert again["frechet_low"] != found["frechet_low"]
    assert again["frechet_floor"] != found["frechet_floor"]
    assert of(samples, reference, real=real) == found


def test_an_evaluation_outlives_a_file(digits):
    samples, reference, _ = digits
    found = measure(samples, reference, extractor=Pixels(), progress=False)
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    said = list(found.lines())
    assert said[0] == "500 samples against 500 real images, extractor parts"
    assert all(any(line.startswith(name) for line in said) for name in LIMITS)
    assert found.resamples == RESAMPLES[True]
    assert "20 splits of the reference, 250 against 250" in found.floor


def test_accuracy():
    """A classifier names the digits that it was asked for, not others; a subset of the classes keeps its names."""
    images = ddim.open_images("digits", split="test")
    extractor = get("digits", images.shape)
    assert isinstance(extractor, Classifier)
    right = (extractor.classify(images.pixels * 15) == images.labels).double().mean().item()
    found = score(images, images, extractor=extractor, labels=images.labels, progress=False)
    assert found["accuracy"] == found["accuracy_floor"] > 0.9
    assert found["accuracy"] == pytest.approx(right, abs=0.02)
    assert found["accuracy_low"] < found["accuracy"] <= found["accuracy_high"]
    assert score(images, images, extractor=extractor, labels=(images.labels + 1) % 10, progress=False)["accuracy"] < 0.1
    few = ddim.open_images("digits", classes="7,1,3,5")
    assert score(few, few, labels=few.labels, progress=False)["accuracy"] > 0.9


def test_an_evaluation_with_the_old_names_is_read():
    """Files from before call the metrics figures, and the accuracy agreement."""
    images = ddim.open_images("digits", split="test")
    found = measure(images, images, labels=images.labels, progress=False)
    old = found.to_dict()
    old["figures"] = {name.replace("accuracy", "agreement"): one for name, one in old.pop("metrics").items()}
    assert Evaluation.from_dict(old) == found
    with pytest.warns(DeprecationWarning, match=r"Evaluation\.metrics"):
        assert found.figures == found.metrics
    with pytest.warns(DeprecationWarning, match=r"ddim\.evaluate\.Metric"):
        assert ddim.evaluate.Figure is Metric


def test_an_unknown_option_is_refused(digits):
    with pytest.raises(TypeError, match="extracter"):
        of(digits[0], digits[1], extracter="digits")


@pytest.fixture(scope="module")
def seen():
    """What is seen in the test images of MNIST, in disorder: the writers of its halves are not of one kind."""
    pixels = ddim.open_images("mnist", split="test").pixels
    return np.random.default_rng(0).permutation(features(get("mnist", (1, 28, 28)), pixels))


@pytest.mark.slow
@needs_real_data
def test_the_standard_errors_are_those_of_new_draws_of_mnist(seen):
    """Of sets that are drawn alike; uncorrected they are 1.8 times as large."""
    rng = np.random.default_rng(0)
    draws = [np.split(rng.permutation(seen)[:1800], [300]) for _ in range(120)]
    for distance, error in (
        (lambda x, y: frechet(gaussian(x), gaussian(y)), frechet_error),
        (kid, kid_error),
    ):
        said = np.mean([error(x, y, 60, 0) for x, y in draws[:8]])
        assert 0.85 < said / np.std([distance(x, y) for x, y in draws]) < 1.4


@needs_real_data
def test_real_mnist_lies_in_its_floor(seen):
    """20 sets of 150 test images, none of them in the reference or the pool: 95 in 100 lie there, by any metric."""
    held = Reference(seen[:4000], 150, 0)
    floor = floor_of_others(held, seen[4000:7000], 150, 20)
    new = [held.values(some) for some in np.split(seen[7000:], 20)]
    for name in LIMITS:
        low, high = floor.interval(name)[1]
        assert sum(low <= one[name] <= high for one in new) >= 16, name  # fewer by chance: 3 in 1,000


@pytest.mark.parametrize(
    ("samples", "options", "said"),
    [
        (
            torch.zeros(16, 1, 8, 8) - 1,
            {},
            "16 samples are too few for the 16 features of parts; take more than 16",
        ),
        (torch.zeros(0, 1, 8, 8), {}, "N at least 1"),
        (torch.zeros(40, 3, 8, 8) - 1, {}, "samples are 3 × 8 × 8 and the real images 1 × 8 × 8"),
        (torch.full((40, 1, 8, 8), torch.nan), {}, "finite"),
        (torch.full((40, 1, 8, 8), 255.0), {}, "not in \\[-1, 1\\]"),
        (torch.zeros(40, 1, 8, 8) - 1, {"labels": [0] * 40}, "does not classify"),
        (torch.zeros(40, 1, 8, 8) - 1, {"seed": -1}, "seed must be a whole number from 0 on; got -1"),
        (torch.zeros(40, 1, 8, 8) - 1, {"reference": 30}, "15 images in half of the reference"),
        (torch.zeros(40, 1, 8, 8) - 1, {"reference": 10}, "10 real images to compare with"),
    ],
)
def test_requests_that_cannot_be(digits, samples, options, said):
    reference = digits[1][: options.pop("reference", 500)]
    with pytest.raises(UserError, match=said):
        of(samples, reference, **options)


@pytest.mark.parametrize("labels", [[0] * 5, [10] * 297, [-1] * 297])
def test_labels_that_cannot_be(labels):
    images = ddim.open_images("digits", split="test")
    with pytest.raises(UserError, match="297 whole numbers from 0 to 9"):
        score(images, images, labels=labels, progress=False)
