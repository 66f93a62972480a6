"""Models whose network is a formula, and images for them."""

import math

import torch
from torch import Tensor, nn

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0
from ddim.schedule import Schedule


class Formula(nn.Module):
    """A network that says what a closed-form `Denoise` says of x0; it remembers the labels that it was told."""

    def __init__(self, denoise: Denoise, schedule: Schedule) -> None:
        super().__init__()
        self.denoise, self.schedule = denoise, schedule
        self.told: list[list[int]] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None:
            self.told.append(label.tolist())
        return self.denoise(x.double(), self.schedule(t.double())).x0.to(x)


def model(denoise: Denoise, schedule: Schedule, shape: tuple[int, int, int], classes: int | None = None) -> Denoiser:
    return Denoiser(Formula(denoise, schedule), schedule, "x0", shape, classes)


def images(pixels: Tensor, grey_levels: int = 17, classes: int = 2) -> Images:
    labels = torch.arange(len(pixels)) % classes
    names = tuple(map(str, range(classes)))
    return Images(pixels.to(torch.uint8), labels, names, "squares", "test", grey_levels)


def uniform(width: float) -> Denoise:
    """The exact denoiser of pixels that are uniform in [-width, width]: the mean of a truncated normal law."""

    def denoise(x: Tensor, at: Level) -> Prediction:
        place, rho = x / at.alpha, at.sigma / at.alpha
        low, high = (-width - place) / rho, (width - place) / rho
        density = torch.exp(-(low**2) / 2) - torch.exp(-(high**2) / 2)
        mass = torch.special.ndtr(high) - torch.special.ndtr(low)
        return from_x0(x, at, place + rho * density / (math.sqrt(2 * math.pi) * mass))

    return denoise


def discretised(mean: float, std: float, grey_levels: int) -> Tensor:
    """The probability that N(mean, std^2), rounded to grey levels, is at each of them."""
    half = 1 / (grey_levels - 1)
    edges = torch.linspace(-1 + half, 1 - half, grey_levels - 1, dtype=torch.float64)
    below = torch.special.ndtr((edges - mean) / std)
    return torch.cat([below, torch.ones(1)]).diff(prepend=torch.zeros(1).double())
