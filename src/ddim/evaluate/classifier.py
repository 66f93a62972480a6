"""Small frozen classifiers of handwritten digits: the layer before the last gives features, the last one a name.

`python models/classifier.py mnist` trains one anew, and writes its file in `weights`.
"""

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError

WEIGHTS = Path(__file__).with_name("weights")
BATCH = 500  # images at a time
VERSION = 1  # raised when the arithmetic changes


class Size(NamedTuple):
    """Of the images and of what is seen in them."""

    side: int
    features: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 1, self.side, self.side


SIZES = {"mnist": Size(28, 64), "digits": Size(8, 32)}


class Network(nn.Module):
    """Three convolutions and two linear layers; what the last one sees are the features.

    Args:
        size: the side of the images is a multiple of 4.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.features = nn.Linear(64 * (size.side // 4) ** 2, size.features)
        self.classify = nn.Linear(size.features, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: images (B, 1, side, side) in [0, 1]. Returns features (B, F) and logits (B, 10)."""
        x = self.stages[0](images)
        for stage in list(self.stages)[1:]:
            x = stage(F.max_pool2d(x, 2))
        x = F.relu(self.features(x.flatten(1)))
        return x, self.classify(F.dropout(x, 0.3, self.training))


class Classifier:
    """An `Extractor` that also names the digit it sees.

    Its training images are those of the generative models that it judges, so it favours none of two models that
    are trained on the same data. Its distances compare with others of the same fingerprint alone: they are no FID.

    Args:
        name: the data set it knows, "mnist" or "digits".
        shape: (C, H, W) of the images, 1x28x28 or 1x8x8.

    Raises:
        UserError: another shape.
    """

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        size = SIZES[name]
        if tuple(shape) != size.shape:
            wanted, given = ("x".join(map(str, one)) for one in (size.shape, shape))
            raise UserError(f"The extractor {name} sees images of {wanted}, not of {given}; take scattering.")
        self.network, self.accuracy, self.fingerprint = _trained(name)
        self.name = name
        self.about = (
            f"{size.features} features of a small classifier of {name} that names {self.accuracy:.2%} of the test "
            "images rightly"
        )
        self.shape, self.dim = size.shape, size.features
        self.classes: int | None = 10

    @torch.no_grad()
    def view(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What it sees in (B, C, H, W) uint8: features (B, F) float64 and classes (B,) int64."""
        parts = [self.network(part.float() / 255) for part in torch.split(pixels, BATCH)]
        return torch.cat([f for f, _ in parts]).double(), torch.cat([logits.argmax(1) for _, logits in parts])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Args: pixels (B, C, H, W) uint8. Returns features (B, F) float64, none of them below 0."""
        return self.view(pixels)[0]

    def classify(self, pixels: Tensor) -> Tensor:
        """Args: pixels (B, C, H, W) uint8. Returns the digit in each image, (B,) int64."""
        return self.view(pixels)[1]


@cache
def _trained(name: str) -> tuple[Network, float, str]:
    """The network, its accuracy on the test images as measured when it was trained, and the fingerprint."""
    path = WEIGHTS / f"{name}.safetensors"
    data = path.read_bytes()
    network = Network(SIZES[name])
    network.load_state_dict(load(data))
    with safe_open(path, "pt") as file:
        accuracy = float(file.metadata()["test_accuracy"])
    return network.eval(), accuracy, f"{name} {VERSION} {hashlib.sha256(data).hexdigest()}"
