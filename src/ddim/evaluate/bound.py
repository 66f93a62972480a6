"""The variational bound on -log p(x0), term by term, in bits per dimension (DDPM, arXiv 2006.11239, Eq. 5).

-log p(x0) <= L_T + (L_(T-1) + ... + L_1) + L_0 for DDPM's chain. It starts at x_T from N(0, I). p(x_(t-1) | x_t) is
the posterior q(x_(t-1) | x_t, x0) with the predicted x0, clipped to [-1, 1] as in sampling, in the place of the
true one. Its variance is that of the posterior, beta-tilde_t = beta_t (1 - abar_(t-1)) / (1 - abar_t) (Eq. 7). At
t = 1 that is 0, and the decoder takes beta-tilde_2 instead, as in the official code of DDPM and of improved DDPM
(arXiv 2102.09672, whose figure 2 shows the terms).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import Batch, batches, levels_of, spread_rows
from ddim.evaluate.dequantise import decoder_nll, decoder_std
from ddim.evaluate.intervals import Mean
from ddim.forward import q_sample, start_std
from ddim.level import Level
from ddim.noise import LIKELIHOOD, ImageNoise
from ddim.progress import bar, hidden
from ddim.schedule import Schedule

TIMES = 40

WeightedTimes = Iterator[tuple[Tensor, Tensor]]
"""Times (B,) int64 and their weights (B,) float64, one for each image; first t = 1 with weight 1 for all."""


@dataclass(frozen=True)
class Bound:
    """The bound and its terms.

    `terms` holds the means of L_0, L_1, ..., L_T, (T + 1,) float64, each over the images that drew its time; NaN if
    none did. With all times they add up to `bits`.
    """

    bits: Mean  # bits per dimension; the interval is over images and over their times and noise
    terms: Tensor  # bits per dimension
    calls: int  # network calls for each image


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
    """Return an upper bound on the negative log-likelihood of images, given their labels if the model has classes.

    All times cost T network calls for each image. `times` of them cost 1 + `times` calls: L_0 and L_T are computed
    for each image; the other terms are drawn about in proportion to their size, and weighted so that the mean is
    unbiased. The draws of an image depend only on the seed and on its index in the set.

    Args:
        model: on the device to use; it is in eval mode afterwards.
        images: usually a held-out split; the bits are those of its grey levels.
        count: number of images, spread over the set; None is all.
        times: number of terms L_1 ... L_(T-1) that are computed for each image; None is all.
        seed, batch_size: seed of times and noise, and images at a time.
        progress: whether to show a bar.

    Raises:
        UserError: images that do not fit the model, a count or number of times out of range, or T = 1.
    """
    T, rows, grey_levels = model.schedule.N, spread_rows(model, images, count), levels_of(images)
    if times is not None and times < 1:
        raise UserError(f"Ask for at least 1 of the times 2 ... T, or for None, all of them; got {times}.")
    calls = T if times is None else 1 + times
    model.eval()
    bits, sums, hits = [], torch.zeros(T + 1, dtype=torch.float64), torch.zeros(T + 1, dtype=torch.float64)
    with hidden(not progress), bar(total=len(rows) * (calls + 1), desc="bound", unit="term") as shown:
        for batch in batches(model, images, rows, batch_size):
            total = torch.zeros(len(batch.rows), dtype=torch.float64)
            for k, weight, term in _terms(model, batch, grey_levels, times, seed):
                total += weight * term
                sums.index_add_(0, k, term)
                hits.index_add_(0, k, torch.ones_like(term))
                shown.update(len(k))
            bits.append(total)
    return Bound(Mean.of(torch.cat(bits)), sums / hits, calls)


def _terms(
    model: Denoiser, batch: Batch, grey_levels: int, times: int | None, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the index k of a term, its weight, and L_k in bits per dimension, all (B,); L_T first."""
    schedule, noise = model.schedule, ImageNoise(seed, batch.rows, LIKELIHOOD)
    denoise, clean = model.denoise(batch.label), batch.x0.cpu().double()  # not every device has float64
    scale = 1 / (math.log(2) * clean[0].numel())  # from nats to bits per dimension
    every = torch.ones(len(clean), dtype=torch.int64)
    yield every * schedule.N, every.double(), scale * prior(clean, schedule(schedule.T))
    weighted = all_times(schedule, len(clean)) if times is None else sampled_times(schedule, times, noise.streams)
    for t, weight in weighted:
        at = schedule(schedule.times[t]).like(batch.x0)
        x0 = denoise(q_sample(batch.x0, at, noise(batch.x0)), at).x0.cpu().double()
        if t[0] == 1:  # then all are
            nats = decoder_nll(clean, x0, decoder_std(schedule), grey_levels)
        else:
            nats = divergence(clean, x0, t, schedule)
        yield t - 1, weight, scale * nats


def prior(x0: Tensor, last: Level) -> Tensor:
    """Return KL(q(x_T | x0) || N(0, I)) = sum (abar_T x0^2 + sigma_T^2 - 1 - log sigma_T^2) / 2: L_T, (B,) nats.

    Where x_T is drawn with another std (`ddim.forward.start_std`), alpha and sigma are divided by it.
    """
    alpha, sigma = last.alpha / start_std(last), last.sigma / start_std(last)
    return ((alpha * x0) ** 2 + sigma**2 - 1 - 2 * sigma.log()).flatten(1).sum(1) / 2


def divergence(x0: Tensor, predicted: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return L_(t-1) = (SNR(t-1) - SNR(t)) / 2 ||x0 - x0_theta||^2 (Eq. 8, as in arXiv 2107.00630, section 4).

    It equals ||mu-tilde_t - mu_theta||^2 / (2 beta-tilde_t), the KL of two Gaussians of variance beta-tilde_t.

    Args:
        x0, predicted: clean images and the network's clipped prediction of them, (B, C, H, W) float64.
        t: (B,) integer times from 2 to T.
        schedule: of the model.

    Returns:
        (B,) nats, summed over the pixels.
    """
    snr = schedule.log_snr.exp()
    return (snr[t - 1] - snr[t]) / 2 * (x0 - predicted).square().flatten(1).sum(1)


def all_times(schedule: Schedule, images: int) -> WeightedTimes:
    """Yield t = 1, 2, ..., T for each image, with weight 1."""
    for t in range(1, schedule.N + 1):
        yield torch.full((images,), t), torch.ones(images, dtype=torch.float64)


def sampled_times(schedule: Schedule, count: int, streams: Sequence[np.random.Generator]) -> WeightedTimes:
    """Yield t = 1, and `count` of the times 2 ... T: one from each of `count` strata of equal probability.

    The weight of a time is 1 / (count p(t)), so that the expected weighted sum of any terms is their sum over
    2 ... T. `streams` holds a generator for each image; `count` numbers are drawn from each.
    """
    p = probabilities(schedule)
    drawn = torch.from_numpy(np.stack([stream.random(count) for stream in streams]))
    places = (torch.arange(count) + drawn) / count
    k = torch.searchsorted(p.cumsum(0), places, right=True).clamp(max=len(p) - 1)  # the sum may round to below 1
    yield torch.ones(len(streams), dtype=torch.int64), torch.ones(len(streams), dtype=torch.float64)
    yield from zip(k.T + 2, 1 / (count * p[k.T]), strict=True)


def probabilities(schedule: Schedule) -> Tensor:
    """Return p(t) ~ (SNR(t-1) - SNR(t)) / (1 + SNR(t)) for t = 2 ... T: the size of L_(t-1) for pixels of N(0, 1).

    Given x_t, such a pixel has the variance 1 / (1 + SNR(t)). The result is (T - 1,) float64, positive, of sum 1.
    """
    snr = schedule.log_snr.exp()
    size = (snr[1:-1] - snr[2:]) / (1 + snr[2:])
    return size / size.sum()
