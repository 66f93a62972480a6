"""Small frozen classifiers of handwritten digits. The layer before the last gives the features.

`python models/classifier.py mnist` trains one and writes its file in `weights`.
"""

import hashlib
from collections.abc import Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError
from ddim.evaluate.extractors import Shape, register
from ddim.files import read_tensors, tensors_header
from ddim.text import dimensions

WEIGHTS = Path(__file__).with_name("weights")
BATCH = 500  # images at a time
VERSION = 1  # increase when the arithmetic changes


class Size(NamedTuple):
    """Input side length in pixels, and feature dimension."""

    side: int
    features: int

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return 1, self.side, self.side


SIZES = {"mnist": Size(28, 64), "digits": Size(8, 32)}


class Network(nn.Module):
    """Three convolutions and two linear layers, for sides that are a multiple of 4."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise((1, 16, 32, 64))
        )
        self.features = nn.Linear(64 * (size.side // 4) ** 2, size.features)
        self.classify = nn.Linear(size.features, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, F) and logits (B, 10) of images (B, 1, side, side) in [0, 1]."""
        x = self.stages[0](images)
        for stage in list(self.stages)[1:]:
            x = stage(F.max_pool2d(x, 2))
        x = F.relu(self.features(x.flatten(1)))
        return x, self.classify(F.dropout(x, 0.3, self.training))


class DigitClassifier:
    """A `ddim.evaluate.Classifier` of the ten digits.

    It was trained on the same training images as the generative models that it evaluates, so it favours none of two
    models of the same data. Compare its distances only with others of the same fingerprint: they are not FIDs.

    Args:
        name: the data set that it was trained on, a key of `SIZES`.
        shape: (C, H, W) of the images. Raises `UserError` if they are not those of the data set.
    """

    def __init__(self, name: str, shape: Shape) -> None:
        size = SIZES[name]
        if tuple(shape) != size.shape:
            expected, given = map(dimensions, (size.shape, shape))
            raise UserError(f"The extractor {name} takes images of {expected}, not of {given}; take scattering.")
        self.network, self.accuracy, self.fingerprint = _trained(name)
        self.name, self.shape, self.dim = name, size.shape, size.features
        accuracy = f"an accuracy of {self.accuracy:.2%} on the test images"
        self.about = f"{self.dim} features of a small classifier of {name} with {accuracy}"
        self.classes: Sequence[str] = tuple("0123456789")

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, F) float64 and classes (B,) int64 of pixels (B, C, H, W) uint8."""
        parts = [self.network(part.float() / 255) for part in torch.split(pixels, BATCH)]
        return torch.cat([f for f, _ in parts]).double(), torch.cat([logits.argmax(1) for _, logits in parts])

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.predict(pixels)[0]

    def classify(self, pixels: Tensor) -> Tensor:
        """Return the digit in each image, (B,) int64, for pixels (B, C, H, W) uint8."""
        return self.predict(pixels)[1]


@cache
def _trained(name: str) -> tuple[Network, float, str]:
    """Return the network, its test accuracy as measured after its training, and its fingerprint."""
    path, network = WEIGHTS / f"{name}.safetensors", Network(SIZES[name])
    network.load_state_dict(read_tensors(path))
    accuracy = float(tensors_header(path).metadata["test_accuracy"])
    return network.eval(), accuracy, f"{name} {VERSION} {hashlib.sha256(path.read_bytes()).hexdigest()}"


for _name in SIZES:
    register(_name, default_for=_name)(partial(DigitClassifier, _name))
