"""Which extractor sees which images, and what every one of them says of itself."""

from dataclasses import replace

import pytest
import torch

import ddim
from ddim.data import Images
from ddim.errors import UserError
from ddim.evaluate import Classifier, extractors
from ddim.evaluate.scoring import ScoringOptions
from ddim.registry import Registry


@pytest.mark.parametrize(
    ("shape", "data", "name"),
    [
        ((1, 28, 28), "mnist", "mnist"),
        ((1, 8, 8), "digits", "digits"),
        ((1, 32, 32), "mnist", "scattering"),  # resized
        ((1, 28, 28), "letters", "scattering"),
        ((1, 28, 28), None, "scattering"),
        ((3, 32, 32), "airplanes", "scattering"),
    ],
)
def test_known_digits_have_their_classifier_and_all_else_scattering(shape, data, name):
    chosen = extractors.choose(shape, data)
    assert (chosen.name, chosen.shape) == (name, shape)
    assert isinstance(chosen, Classifier) == (name == data)


def test_no_two_extractors_share_a_fingerprint():
    made = [
        extractors.get("mnist", (1, 28, 28)),
        extractors.get("digits", (1, 8, 8)),
        extractors.get("scattering", (1, 8, 8)),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    assert all(one.about.startswith(f"{one.dim} features") for one in made)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("nothing", (1, 28, 28), "no extractor called 'nothing'; choose one of "),
        ("mnist", (3, 28, 28), "of 1 × 28 × 28, not of 3 × 28 × 28"),
        ("digits", (1, 28, 28), "of 1 × 8 × 8, not of 1 × 28 × 28"),
        ("scattering", (2, 28, 28), "not of 2 × 28 × 28"),
        ("scattering", (1, 7, 28), "8 to 256 pixels"),
        ("scattering", (1, 28, 257), "8 to 256 pixels"),
        ("inception", (4, 28, 28), "1 or 3 channels, not of 4"),
    ],
)
def test_what_there_is_not_is_said_in_a_sentence(name, shape, reason):
    with pytest.raises(UserError, match=reason):
        extractors.get(name, shape)


@pytest.fixture
def halves(monkeypatch):
    """Another file's extractor, complete by the protocol: the mean of each half, and which half is brighter."""
    monkeypatch.setattr(extractors, "extractors", Registry("extractor"))
    monkeypatch.setattr(extractors, "_defaults", {})

    @ddim.evaluate.register("halves", default_for="bars")
    class Halves:
        name, about, fingerprint, dim, classes = "halves", "the mean of each half", "halves 1", 2, ("left", "right")

        def __init__(self, shape):
            self.shape = shape

        def __call__(self, pixels):
            return torch.stack([half.double().mean((1, 2, 3)) for half in pixels.chunk(2, -1)], dim=1)

        def classify(self, pixels):
            return self(pixels).argmax(1)


def test_an_extractor_of_one_s_own(halves):
    labels = torch.arange(40) % 2
    pixels = torch.randint(100, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    pixels[labels == 0, :, :, :2] += 150
    pixels[labels == 1, :, :, 2:] += 150
    bars = Images(pixels.to(torch.uint8), labels, ("left", "right"), "bars", "test")
    assert ddim.evaluate.names() == ["halves"]
    chosen = ddim.evaluate.choose(bars.shape, "bars")
    assert isinstance(chosen, Classifier)
    found = ddim.evaluate.score(bars, bars, labels=labels, progress=False)  # by the name of the data
    assert found["accuracy"] == found["accuracy_floor"] == 1
    assert ddim.evaluate.score(bars, bars, extractor="halves", progress=False)["frechet"] < 1e-6
    turned = replace(bars, classes=("right", "left"))  # by the names of the classes, not their numbers
    assert ddim.evaluate.score(bars, turned, labels=labels, extractor="halves", progress=False)["accuracy"] == 0
    with pytest.raises(UserError, match="does not know the classes up, down"):
        ddim.evaluate.score(bars, replace(bars, classes=("up", "down")), labels=labels, progress=False)
    options: ScoringOptions = {"labels": labels, "extractor": chosen, "progress": False}
    assert ddim.evaluate.score(bars.pixels, bars.pixels, **options)["accuracy"] == 1
