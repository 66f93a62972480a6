"""A judge of digits: a small classifier of MNIST, and how far what it sees in some images is from the real ones.

`python benchmarks/judge.py` trains it anew, in some three minutes of one core, and writes judge.safetensors.
DDIM_DATA names the folder that holds MNIST.
"""

import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ddim import open_images
from ddim.files import writing

WEIGHTS = Path(__file__).with_name("judge.safetensors")
EPOCHS, BATCH, SHIFT, SEED = 8, 128, 2, 0


class Judge(nn.Module):
    """Three convolutions and two linear layers; what the last one sees are the features."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.features = nn.Linear(64 * 7 * 7, 64)
        self.classify = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: images (N, 1, 28, 28) in [0, 1]. Returns features (N, 64) and logits (N, 10)."""
        x = self.stages[0](images)
        for stage in list(self.stages)[1:]:
            x = stage(F.max_pool2d(x, 2))
        x = F.relu(self.features(x.flatten(1)))
        return x, self.classify(F.dropout(x, 0.3, self.training))


@cache
def judge() -> Judge:
    """The trained judge."""
    network = Judge()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def accuracy() -> float:
    """Share of the 10,000 test images that it names rightly, as measured when it was trained."""
    with safe_open(WEIGHTS, "pt") as file:
        return float(file.metadata()["test_accuracy"])


@torch.no_grad()
def view(images: Tensor | NDArray[np.uint8], network: Judge | None = None) -> tuple[Tensor, Tensor]:
    """What the judge sees in (N, 1, 28, 28) or (N, 28, 28) uint8: features (N, 64) and classes (N,)."""
    pixels = torch.as_tensor(images).reshape(-1, 1, 28, 28)
    network = network or judge()
    parts = [network(part.float() / 255) for part in pixels.split(500)]
    return torch.cat([f for f, _ in parts]), torch.cat([logits.argmax(1) for _, logits in parts])


def features(images: Tensor | NDArray[np.uint8]) -> NDArray[np.float64]:
    """The penultimate layer, (N, 64) float64, of (N, 1, 28, 28) or (N, 28, 28) uint8."""
    return view(images)[0].double().numpy()


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
        "frechet": frechet(seen.double().numpy(), reference()),
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


def shifted(images: Tensor) -> Tensor:
    """Each image moved by up to SHIFT pixels each way, black coming in."""
    padded = F.pad(images, [SHIFT] * 4)
    rows, columns = (torch.randint(2 * SHIFT + 1, (len(images), 1)) + torch.arange(28) for _ in range(2))
    each = torch.arange(len(images))[:, None, None]
    return padded[each, 0, rows[:, :, None], columns[:, None, :]][:, None]


def train() -> None:
    """Train the judge and keep its weights, with its accuracy on the test images beside them."""
    torch.manual_seed(SEED)
    images, test = open_images("mnist"), open_images("mnist", split="test")
    network, began = Judge(), time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=EPOCHS * (len(images) // BATCH))
    for epoch in range(EPOCHS):
        for some in torch.randperm(len(images))[: len(images) // BATCH * BATCH].view(-1, BATCH):
            _, logits = network(shifted(images.pixels[some].float() / 255))
            optimizer.zero_grad()
            F.cross_entropy(logits, images.labels[some]).backward()
            optimizer.step()
            pace.step()
        right = (view(test.pixels, network.eval())[1] == test.labels).double().mean().item()
        network.train()
        now = time.perf_counter() - began
        print(f"epoch {epoch + 1}/{EPOCHS}: test accuracy {right:.4f}, {now:.0f} s", flush=True)
    about = {"test_accuracy": f"{right:.4f}", "epochs": str(EPOCHS), "seed": str(SEED), "data": "mnist"}
    with writing(WEIGHTS) as draft:
        save_file(network.state_dict(), draft, metadata=about)


if __name__ == "__main__":
    train()
