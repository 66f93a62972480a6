"""The classifiers are small, and as good as the files say."""

import os

import pytest
import torch

from ddim import open_images
from ddim.evaluate import Classifier
from ddim.evaluate.extractors.classifier import SIZES, WEIGHTS, DigitClassifier
from ddim.evaluate.features import as_pixels

REAL = os.environ.get("DDIM_DATA")
BOTH = [
    "digits",
    pytest.param("mnist", marks=pytest.mark.skipif(not REAL, reason="set DDIM_DATA to a folder of MNIST")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
def test_the_stated_share_of_the_test_images_is_named_rightly(name):
    classifier, test = DigitClassifier(name, SIZES[name].shape), open_images(name, split="test")
    right = (classifier.classify(as_pixels(test)) == test.labels).double().mean().item()
    assert right == pytest.approx(classifier.accuracy, abs=2e-4)  # another machine may round two images otherwise
    assert right > 0.98
    assert f"{right:.2%}"[:4] in classifier.about


@pytest.mark.parametrize("name", SIZES)
def test_features_and_classes_come_from_one_look(name):
    classifier = DigitClassifier(name, SIZES[name].shape)
    pixels = torch.randint(256, (7, *classifier.shape), dtype=torch.uint8)
    assert isinstance(classifier, Classifier)
    features, classes = classifier.predict(pixels)
    assert torch.equal(features, classifier(pixels))
    assert torch.equal(classes, classifier.classify(pixels))
    assert features.dtype == torch.float64
    assert features.shape == (7, classifier.dim)
    assert (features >= 0).all()  # after the rectifier
    logits = classifier.network.classify(features.float())
    assert torch.equal(classes, logits.argmax(1))


@pytest.mark.parametrize("name", SIZES)
def test_the_weights_are_small(name):
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 1_000_000
