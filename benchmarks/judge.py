"""Measure the Fréchet distance of images to real digits, in the features of a small classifier of MNIST.

The classifier is `ddim.evaluate.extractors.classifier`; DDIM_DATA names the folder that holds MNIST.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddim import open_images
from ddim.evaluate.extractors.classifier import SIZES, DigitClassifier
from ddim.evaluate.frechet import Gaussian, frechet, gaussian


@cache
def judge() -> DigitClassifier:
    """Return the trained classifier."""
    return DigitClassifier("mnist", SIZES["mnist"].shape)


def accuracy() -> float:
    """Return its accuracy on the 10,000 test images, as measured when it was trained."""
    return judge().accuracy


def view(images: Tensor | NDArray[np.uint8]) -> tuple[Gaussian, Tensor]:
    """Return the Gaussian of the 64 features and the classes (N,) of (N, 1, 28, 28) or (N, 28, 28) uint8 images."""
    features, classes = judge().predict(torch.as_tensor(images).reshape(-1, 1, 28, 28))
    return gaussian(features.numpy()), classes


@cache
def reference() -> Gaussian:
    """Return the Gaussian of the 10,000 test images, on which no model is trained."""
    return view(open_images("mnist", split="test").pixels)[0]


def score(samples: Tensor | NDArray[np.uint8], labels: Tensor | None = None) -> dict[str, object]:
    """Measure samples.

    Args:
        samples: (N, 1, 28, 28) or (N, 28, 28) uint8.
        labels: (N,) the requested digits; None for a model without classes.

    Returns:
        `frechet`, the distance to the test images; `agreement`, the accuracy, or None without labels;
        `classes`, how many samples the classifier assigns to each digit.
    """
    seen, classes = view(samples)
    return {
        "frechet": frechet(seen, reference()),
        "agreement": None if labels is None else (classes == torch.as_tensor(labels)).double().mean().item(),
        "classes": classes.bincount(minlength=10).tolist(),
    }


def floor(count: int, even: bool = False) -> dict[str, float]:
    """Measure the distance of equally many real images, drawn from the training images: that of a perfect sampler.

    Args:
        count: images in a draw.
        even: draw equally many of each digit, as a sampler with classes does; otherwise at random.

    Returns:
        `mean`, `least` and `most` over 20 draws.
    """
    images, generator = open_images("mnist"), torch.Generator().manual_seed(0)
    groups = [(images.labels == c).nonzero()[:, 0] for c in range(10)] if even else [torch.arange(len(images))]
    distances = []
    for _ in range(20):
        some = [group[torch.randperm(len(group), generator=generator)[: count // len(groups)]] for group in groups]
        distances.append(frechet(view(images.pixels[torch.cat(some)])[0], reference()))
    return {"mean": float(np.mean(distances)), "least": min(distances), "most": max(distances)}
