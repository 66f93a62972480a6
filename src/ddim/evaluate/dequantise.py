"""Grey levels and densities: dequantisation, and the decoder from a Gaussian back to grey levels.

Level v of G is x0 = 2 v / (G - 1) - 1, as in `ddim.data.Images`. Its cell is the interval of width 2 / (G - 1)
around it. The cells tile the line from half a cell below -1 to half a cell above 1.

Dequantisation draws y from q(y | v), and P(v | y) is the way back. For any such pair

    -log P(v) <= E_q[-log p(y) + log q(y | v) - log P(v | y)]

so one draw for each image gives an upper bound on the mean code length of the grey levels (arXiv 1902.00275,
section 3.1).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise
from ddim.registry import Registry
from ddim.schedule import Schedule

Streams = Sequence[np.random.Generator]


class Dequantised(NamedTuple):
    """Dequantised images."""

    y: Tensor  # (B, C, H, W)
    cost: Tensor  # log q(y | v) - log P(v | y) in nats, (B,) float64


Dequantisation = Callable[[Denoise, Tensor, Streams, Schedule, int], Dequantised]

dequantisations: Registry[Dequantisation] = Registry("dequantisation", extensible=False)


@dequantisations.register("uniform")
def uniform(denoise: Denoise, x0: Tensor, streams: Streams, schedule: Schedule, grey_levels: int) -> Dequantised:
    """y = 2 (v + u - 1/2) / (G - 1) - 1 with u uniform in [0, 1): anywhere in the cell (arXiv 1511.01844, 3.1).

    Then q(y | v) = ((G - 1) / 2)^d and P(v | y) = 1. The data stay centred around the levels that the model knows.
    """
    half = half_width(grey_levels)
    u = _stacked(x0, [stream.random(x0.shape[1:], dtype=np.float32) for stream in streams])
    cost = -x0[0].numel() * math.log(2 * half)
    return Dequantised(x0 + (2 * u - 1) * half, torch.full((len(x0),), cost, dtype=torch.float64))


@dequantisations.register("noise")
def noise(denoise: Denoise, x0: Tensor, streams: Streams, schedule: Schedule, grey_levels: int) -> Dequantised:
    """y = x0 + (sigma_1 / alpha_1) eps, which is x_1 / alpha_1, and back by the decoder of the variational bound.

    The network was trained on these images at t = 1, and L_0 is that of the bound. The likelihood of x_1 replaces
    L_1 ... L_T.
    """
    at = schedule(schedule.times[1])
    eps = _stacked(x0, [stream.standard_normal(x0.shape[1:], dtype=np.float32) for stream in streams])
    y = x0 + at.sigma / at.alpha * eps
    log_normal = -eps.cpu().double().square() / 2 - math.log(2 * math.pi) / 2 - (at.sigma / at.alpha).log()
    with torch.no_grad():
        predicted = denoise(at.alpha * y, at).x0.clamp(-1, 1)
    L_0 = decoder_nll(x0.cpu().double(), predicted.cpu().double(), decoder_std(schedule), grey_levels)
    return Dequantised(y, log_normal.flatten(1).sum(1) + L_0)


def _stacked(like: Tensor, numbers: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(numbers)).to(like)


def half_width(grey_levels: int) -> float:
    """Return half of the width of a cell, 1 / (G - 1)."""
    return 1 / (grey_levels - 1)


def decoder_std(schedule: Schedule) -> float:
    """Return sqrt(beta-tilde_2), beta-tilde_2 = beta_2 (1 - abar_1) / (1 - abar_2) (DDPM, arXiv 2006.11239, Eq. 7).

    It replaces beta-tilde_1, which is 0, as in the official code.

    Raises:
        UserError: T = 1.
    """
    if schedule.N < 2:
        raise UserError("A bound in bits needs a schedule of at least 2 steps; this one has 1.")
    return float((schedule.betas[2] * (1 - schedule.alpha_bar[1]) / (1 - schedule.alpha_bar[2])).sqrt())


def decoder_nll(x0: Tensor, mean: Tensor, std: float, grey_levels: int) -> Tensor:
    """Return L_0 = -log p(x0 | x_1), the mass of N(mean, std^2) in the cell of each pixel (DDPM, Eq. 13).

    The cells of black and white extend to infinity, so that the probabilities of the grey levels add up to 1.

    Args:
        x0, mean: images in [-1, 1], at grey levels, and the predicted clean images, (B, C, H, W) float64.
        std: of the Gaussian, `decoder_std`.
        grey_levels: G, of the data set.

    Returns:
        (B,) nats, summed over the pixels.
    """
    half = half_width(grey_levels)
    low = torch.where(x0 < -1 + half, -math.inf, (x0 - half - mean) / std)
    high = torch.where(x0 > 1 - half, math.inf, (x0 + half - mean) / std)
    # Mirror into the lower tail, where Phi(high) - Phi(low) does not cancel.
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    nats: Tensor = -(log_high + torch.log1p(-(log_low - log_high).exp()))
    return nats.flatten(1).sum(1)
