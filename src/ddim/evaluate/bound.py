"""The variational bound on -log p(x0), term by term, in bits per dimension (DDPM, arXiv 2006.11239, Eq. 5).

-log p(x0) <= L_T + (L_(T-1) + ... + L_1) + L_0 for DDPM's chain: from x_T of N(0, I), p(x_(t-1) | x_t) is the
posterior q(x_(t-1) | x_t, x0) with the predicted x0 in the place of the true one, clipped to [-1, 1] as in
sampling. Its variance is the posterior's own, beta-tilde_t = beta_t (1 - abar_(t-1)) / (1 - abar_t) (Eq. 7). That
is 0 at t = 1, where the decoder has beta-tilde_2 instead, as in the official code of DDPM and of improved DDPM
(arXiv 2102.09672, whose figure 2 shows the terms).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import Batch, batches, chosen
from ddim.evaluate.decoder import std, surprise
from ddim.evaluate.mean import Mean
from ddim.evaluate.times import at_every_time, at_some_times
from ddim.forward import q_sample
from ddim.level import Level
from ddim.noise import LIKELIHOOD, ImageNoise
from ddim.schedule import Schedule

TIMES = 40


@dataclass(frozen=True)
class Bound:
    """The bound, and where its bits go.

    Attributes:
        bits: per dimension; the interval is over images, and over the times and the noise that they drew.
        terms: (T + 1,) float64, the mean of L_0, L_1, ..., L_T over the images that were asked at its time, in bits
            per dimension; NaN where none was. With all times they add up to `bits`.
        calls: of the network, for each image.
    """

    bits: Mean
    terms: Tensor
    calls: int


@torch.no_grad()
def measure(
    model: Denoiser,
    images: Images,
    *,
    count: int | None = None,
    times: int | None = TIMES,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> Bound:
    """An upper bound on the bits that the model needs for an image, given its label if the model has classes.

    With all times it costs T calls of the network for each image. With some it costs 1 + `times`: L_0 and L_T are
    computed for each image, and of the other terms so many, drawn by about their size and weighted so that the mean
    is unbiased. What an image draws depends on the seed and on its place in the set alone.

    Args:
        model: in eval mode afterwards, on the device to use.
        images: usually a held-out split, with the grey levels that the bits are counted for.
        count: how many of them, spread over the set; None is all.
        times: terms L_1 ... L_(T-1) that are computed for each image; None is all.
        seed: of times and noise.
        batch_size: images at a time.
        progress: whether to show a bar.

    Raises:
        UserError: images that are not the model's kind, a count or number of times that cannot be, or T = 1.
    """
    T, rows = model.schedule.T, chosen(model, images, count)
    if times is not None and times < 1:
        raise UserError(f"Ask for at least 1 of the times 2 ... T, or for None, all of them; got {times}.")
    calls = T if times is None else 1 + times
    model.eval()
    bits, sums, hits = [], torch.zeros(T + 1, dtype=torch.float64), torch.zeros(T + 1, dtype=torch.float64)
    with tqdm(total=len(rows) * (calls + 1), desc="bound", unit="term", disable=None if progress else True) as bar:
        for batch in batches(model, images, rows, batch_size):
            total = torch.zeros(len(batch.rows), dtype=torch.float64)
            for k, weight, term in _terms(model, batch, images.grey_levels, times, seed):
                total += weight * term
                sums.index_add_(0, k, term)
                hits.index_add_(0, k, torch.ones_like(term))
                bar.update(len(k))
            bits.append(total)
    return Bound(Mean.of(torch.cat(bits)), sums / hits, calls)


def _terms(
    model: Denoiser, batch: Batch, grey_levels: int, times: int | None, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Which term each image meets, what it weighs, and L_k itself in bits per dimension: (B,) each; L_T first."""
    schedule, noise = model.schedule, ImageNoise(seed, batch.rows, LIKELIHOOD)
    denoise, clean = model.denoise(batch.label), batch.x0.cpu().double()  # not every device has float64
    scale = 1 / (math.log(2) * clean[0].numel())  # from nats to bits per dimension
    every = torch.ones(len(clean), dtype=torch.int64)
    yield every * schedule.T, every.double(), scale * prior(clean, schedule(schedule.T))
    if times is None:
        drawn = at_every_time(schedule, len(clean))
    else:
        drawn = at_some_times(schedule, times, noise.streams)
    for t, weight in drawn:
        at = schedule(t).like(batch.x0)
        x0 = denoise(q_sample(batch.x0, at, noise(batch.x0)), at).x0.cpu().double()
        if t[0] == 1:  # and then so are all
            nats = surprise(clean, x0, std(schedule), grey_levels)
        else:
            nats = divergence(clean, x0, t, schedule)
        yield t - 1, weight, scale * nats


def prior(x0: Tensor, last: Level) -> Tensor:
    """L_T = KL(q(x_T | x0) || N(0, I)) = sum (abar_T x0^2 + sigma_T^2 - 1 - log sigma_T^2) / 2, (B,) nats."""
    return ((last.alpha * x0) ** 2 + last.sigma**2 - 1 - 2 * last.sigma.log()).flatten(1).sum(1) / 2


def divergence(x0: Tensor, predicted: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """L_(t-1) = (SNR(t-1) - SNR(t)) / 2 ||x0 - x0_theta||^2 (Eq. 8; so written in arXiv 2107.00630, section 4).

    It is ||mu-tilde_t - mu_theta||^2 / (2 beta-tilde_t), the KL of two Gaussians of variance beta-tilde_t.

    Args:
        x0: clean images, (B, C, H, W) float64.
        predicted: what the network takes x_t for, clipped; shaped like `x0`.
        t: (B,) whole times from 2 to T.
        schedule: of the model.

    Returns:
        (B,) nats, summed over the pixels.
    """
    snr = schedule.log_snr.exp()
    return (snr[t - 1] - snr[t]) / 2 * (x0 - predicted).square().flatten(1).sum(1)
