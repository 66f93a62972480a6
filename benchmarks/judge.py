"""How far what a small classifier of MNIST sees in some images is from what it sees in the real ones.

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
    """The trained judge."""
    return DigitClassifier("mnist", SIZES["mnist"].shape)


def accuracy() -> float:
    """Share of the 10,000 test images that it names rightly, as measured when it was trained."""
    return judge().accuracy


def view(images: Tensor | NDArray[np.uint8]) -> tuple[Gaussian, Tensor]:
    """What the judge sees in (N, 1, 28, 28) or (N, 28, 28) uint8: the Gaussian of 64 features, and classes (N,)."""
    features, classes = judge().predict(torch.as_tensor(images).reshape(-1, 1, 28, 28))
    return gaussian(features.numpy()), classes


@cache
def reference() -> Gaussian:
    """Of the 10,000 test images, which nobody has learnt from."""
    return view(open_images("mnist", split="test").pixels)[0]


def score(samples: Tensor | NDArray[np.uint8], labels: Tensor | None = None) -> dict[str, object]:
    """How far samples are from real digits.

    Args:
        samples: (N, 1, 28, 28) or (N, 28, 28) uint8.
        labels: (N,) the digits that were asked for, if they were.

    Returns:
        `frechet`, against the test images; `agreement`, the share that the judge takes for what was asked, or None;
        `classes`, how many of each digit it sees.
    """
    seen, classes = view(samples)
    return {
        "frechet": frechet(seen, reference()),
        "agreement": None if labels is None else (classes == torch.as_tensor(labels)).double().mean().item(),
        "classes": classes.bincount(minlength=10).tolist(),
    }


def floor(count: int, even: bool = False) -> dict[str, float]:
    """The distance of so many real images, drawn from the training images: what a perfect sampler would score.

    Args:
        count: images in a draw.
        even: as many of each digit, as a sampler draws that is asked for the digits in turn; else as they come.

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
