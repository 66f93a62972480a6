"""The last step of the chain: from a Gaussian at t = 1 to whole grey levels (DDPM, arXiv 2006.11239, Eq. 13)."""

import math

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.evaluate.cells import half_width
from ddim.schedule import Schedule


def std(schedule: Schedule) -> float:
    """sqrt(beta-tilde_2), with beta-tilde_2 = beta_2 (1 - abar_1) / (1 - abar_2) (Eq. 7), as in the official code.

    The posterior of the step from 1 to 0 has no variance to take: beta-tilde_1 = 0.

    Raises:
        UserError: T = 1.
    """
    if schedule.T < 2:
        raise UserError("A bound in bits needs a schedule of at least 2 steps; this one has 1.")
    return float((schedule.betas[2] * (1 - schedule.alpha_bar[1]) / (1 - schedule.alpha_bar[2])).sqrt())


def surprise(x0: Tensor, mean: Tensor, std: float, grey_levels: int) -> Tensor:
    """L_0 = -log p(x0 | x_1), p being what N(mean, std^2) puts on the cell of each pixel (Eq. 13).

    The cells of black and white reach to infinity, so that the probabilities of the grey levels add up to 1.

    Args:
        x0: images in [-1, 1], at grey levels, (B, C, H, W) float64.
        mean: the predicted clean images, shaped like `x0`.
        std: of the decoder.
        grey_levels: G, of the data set.

    Returns:
        (B,) nats, summed over the pixels.
    """
    half = half_width(grey_levels)
    low = torch.where(x0 < -1 + half, -math.inf, (x0 - half - mean) / std)
    high = torch.where(x0 > 1 - half, math.inf, (x0 + half - mean) / std)
    # Mirrored into the lower tail, where Phi(high) - Phi(low) does not cancel.
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    nats: Tensor = -(log_high + torch.log1p(-(log_low - log_high).exp()))
    return nats.flatten(1).sum(1)
