"""From grey levels to the real line, where densities are: a place y for each pixel, and what the way back costs.

Whatever law q(y | v) draws the place of level v, with P(v | y) the way back,

    -log P(v) <= E_q[-log p(y) + log q(y | v) - log P(v | y)]

so one draw for each image gives an upper bound on the mean cost of grey levels (arXiv 1902.00275, section 3.1).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddim.evaluate.cells import half_width
from ddim.evaluate.decoder import std, surprise
from ddim.level import Denoise
from ddim.registry import Registry
from ddim.schedule import Schedule

Streams = Sequence[np.random.Generator]


class Place(NamedTuple):
    """Dequantised images.

    Attributes:
        y: (B, C, H, W), like the images.
        cost: log q(y | v) - log P(v | y) in nats, (B,) float64.
    """

    y: Tensor
    cost: Tensor


dequantisations: Registry[Callable[[Denoise, Tensor, Streams, Schedule, int], Place]] = Registry("dequantisation")


@dequantisations.register("uniform")
def uniform(denoise: Denoise, x0: Tensor, streams: Streams, schedule: Schedule, grey_levels: int) -> Place:
    """y = 2 (v + u - 1/2) / (G - 1) - 1 with u uniform in [0, 1): anywhere in v's cell (arXiv 1511.01844, 3.1).

    Then q(y | v) = ((G - 1) / 2)^d, and P(v | y) = 1. The data stay centred where the model knows them.
    """
    u = _drawn(x0, [stream.random(x0.shape[1:], dtype=np.float32) for stream in streams])
    cost = -x0[0].numel() * math.log(2 * half_width(grey_levels))
    return Place(x0 + (2 * u - 1) * half_width(grey_levels), torch.full((len(x0),), cost, dtype=torch.float64))


@dequantisations.register("noise")
def noise(denoise: Denoise, x0: Tensor, streams: Streams, schedule: Schedule, grey_levels: int) -> Place:
    """y = x0 + (sigma_1 / alpha_1) eps, which is x_1 / alpha_1, and back by the decoder of the bound.

    These are the images that the network was trained on at t = 1, and L_0 is that of the bound: what the likelihood
    then says of x_1 takes the place of L_1 ... L_T.
    """
    at = schedule(1.0)
    eps = _drawn(x0, [stream.standard_normal(x0.shape[1:], dtype=np.float32) for stream in streams])
    y = x0 + at.sigma / at.alpha * eps
    log_normal = -eps.cpu().double().square() / 2 - math.log(2 * math.pi) / 2 - (at.sigma / at.alpha).log()
    with torch.no_grad():
        predicted = denoise(at.alpha * y, at).x0.clamp(-1, 1)
    L_0 = surprise(x0.cpu().double(), predicted.cpu().double(), std(schedule), grey_levels)
    return Place(y, log_normal.flatten(1).sum(1) + L_0)


def _drawn(like: Tensor, numbers: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(numbers)).to(like)
