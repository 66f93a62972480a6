"""How far what a small classifier of MNIST sees in some images is from what it sees in the real ones.

The classifier is `ddim.evaluate.classifier`; DDIM_DATA names the folder that holds MNIST.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddim import open_images
from ddim.evaluate.classifier import SIZES, Classifier

SEED = 0


@cache
def judge() -> Classifier:
    """The trained judge."""
    return Classifier("mnist", SIZES["mnist"].shape)


def accuracy() -> float:
    """Share of the 10,000 test images that it names rightly, as measured when it was trained."""
    return judge().accuracy


def view(images: Tensor | NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """What the judge sees in (N, 1, 28, 28) or (N, 28, 28) uint8: features (N, 64) and classes (N,)."""
    return judge().view(torch.as_tensor(images).reshape(-1, 1, 28, 28))


def features(images: Tensor | NDArray[np.uint8]) -> NDArray[np.float64]:
    """The penultimate layer, (N, 64) float64, of (N, 1, 28, 28) or (N, 28, 28) uint8."""
    return view(images)[0].numpy()


def frechet(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The Frechet distance of two sets of features, (N, F) and (M, F), by their means and covariances.

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), arXiv 1706.08500, section 2. The eigenvalues of A B are those of
    the symmetric A^(1/2) B A^(1/2), which keeps complex numbers out.
    """
    A, B = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(A)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ B @ root).clip(0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A) + np.trace(B) - 2 * both)


@cache
def reference() -> NDArray[np.float64]:
    """The features of the 10,000 test images, which nobody has learnt from."""
    return features(open_images("mnist", split="test").pixels)


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
        "frechet": frechet(seen.numpy(), reference()),
        "agreement": None if labels is None else (classes == torch.as_tensor(labels)).double().mean().item(),
        "classes": classes.bincount(minlength=10).tolist(),
    }


def floor(count: int = 1000, draws: int = 20, even: bool = False, seed: int = SEED) -> dict[str, float]:
    """The distance of so many real images, drawn from the training images: what a perfect sampler would score.

    Args:
        count: images in a draw.
        draws: how many times.
        even: as many of each digit, as a sampler draws that is asked for the digits in turn; else as they come.
        seed: of the draws.

    Returns:
        `mean`, `least` and `most` over the draws.
    """
    images, generator = open_images("mnist"), torch.Generator().manual_seed(seed)
    groups = [(images.labels == c).nonzero()[:, 0] for c in range(10)] if even else [torch.arange(len(images))]
    distances = []
    for _ in range(draws):
        some = [group[torch.randperm(len(group), generator=generator)[: count // len(groups)]] for group in groups]
        distances.append(frechet(features(images.pixels[torch.cat(some)]), reference()))
    return {"mean": float(np.mean(distances)), "least": min(distances), "most": max(distances)}
