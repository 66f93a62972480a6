"""The exact likelihood of the probability flow, in bits per dimension (arXiv 2011.13456, Eq. 39).

With y = x / alpha and s = sigma / alpha the flow is dy/ds = eps (DDIM, Eq. 14), and along it d log p(y) / ds =
-div eps. The integration uses x, which stays bounded, and lambda = log(alpha / sigma), in which the path is smooth:
dx/dlambda = -alpha sigma v with v = alpha eps - sigma x0 is the same path.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddim import noise
from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import batches, levels_of, spread_rows
from ddim.evaluate.dequantise import dequantisations
from ddim.evaluate.intervals import Mean
from ddim.forward import start_std
from ddim.level import Denoise, Level
from ddim.progress import bar, hidden
from ddim.schedule import Schedule

STEPS = 20
STAGES = 4  # network calls in a step

Trace = Callable[[Tensor, Tensor], Tensor]
"""(f, x), with f(x) computed from the leaf x -> the divergence of f at each image, (B,)."""


class Flow(NamedTuple):
    """The likelihood, also with half as many steps: the difference shows the error of the integral.

    The result is an upper bound because of the dequantisation. `calls` counts network calls with a backward pass;
    the dequantisation "noise" makes one more, without a backward pass.
    """

    bits: Mean  # bits per dimension; the interval is over images and over their random numbers
    halved: Mean  # the same with `steps` / 2 steps and the same random numbers
    steps: int  # S
    calls: int  # for each image: 4 S, and 2 S for `halved`


def measure(
    model: Denoiser,
    images: Images,
    *,
    count: int | None = None,
    steps: int = STEPS,
    dequantisation: str = "uniform",
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> Flow:
    """Return the negative log-likelihood of images by the flow, given their labels if the model has classes.

    The density is that of y = x_1 / alpha_1, since the network is not trained below t = 1: images are drawn by the
    flow from T to 1 and then rounded to grey levels. The flow itself is not clipped.

    "uniform" dequantisation rounds to the nearest level. Where levels, 2 / (G - 1) apart, are closer than the noise
    at t = 1, which is 0.01 on the linear schedule, that noise costs bits. With "noise" the network removes it, by
    the decoder of the bound, so that the result is comparable with the bound.

    Args:
        model: on the device to use; it is in eval mode afterwards.
        images: usually a held-out split; the bits are those of its grey levels.
        count: number of images, spread over the set; None is all.
        steps: S of the classical Runge-Kutta method, even.
        dequantisation: a name from `ddim.evaluate.dequantise.dequantisations`.
        seed: of the dequantisation and of the probe for the trace, one stream for each image.
        batch_size, progress: images at a time, and whether to show a bar.

    Raises:
        UserError: images that do not fit the model, a count or number of steps out of range, an unknown
            dequantisation, or a schedule with alpha_T = 0.
    """
    rows, dequantise = spread_rows(model, images, count), dequantisations[dequantisation]
    grey_levels = levels_of(images)
    if steps < 2 or steps % 2:
        raise UserError(f"The number of steps must be even, at least 2, since half as many are used too; got {steps}.")
    model.eval()
    scale = 1 / (math.log(2) * math.prod(model.shape))  # from nats to bits per dimension
    calls = STAGES * (steps + steps // 2)
    bits: dict[int, list[Tensor]] = {steps: [], steps // 2: []}
    with hidden(not progress), bar(total=len(rows) * calls, desc="flow", unit="call") as shown:
        for batch in batches(model, images, rows, batch_size):
            streams = [noise.stream(seed, row, noise.LIKELIHOOD) for row in batch.rows]
            signs = np.stack([2 * stream.integers(0, 2, batch.x0.shape[1:]) - 1 for stream in streams])
            trace = Hutchinson(torch.from_numpy(signs).to(batch.x0))
            denoise = model.denoise(batch.label, clip=False)
            y, cost = dequantise(denoise, batch.x0, streams, model.schedule, grey_levels)
            for S, values in bits.items():
                density = log_density(denoise, y, model.schedule, S, trace, partial(shown.update, len(y)))
                values.append(scale * (cost - density))
    whole, halved = (Mean.of(torch.cat(values)) for values in bits.values())
    return Flow(whole, halved, steps, calls)


class Hutchinson:
    """The estimate e^T J e of the trace of J, unbiased for random signs e (arXiv 1810.01367, section 3.1).

    It takes one backward pass. The signs, `probe`, stay the same along the whole path.
    """

    def __init__(self, probe: Tensor) -> None:
        self.probe = probe

    def __call__(self, f: Tensor, x: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(f, x, self.probe)  # e^T J
        return (product * self.probe).flatten(1).sum(1)


def log_density(
    denoise: Denoise,
    y: Tensor,
    schedule: Schedule,
    steps: int,
    trace: Trace,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return log p(y) of y = x_1 / alpha_1, log N(x_T; 0, I) + the integral of div(dx/dlambda) + d log alpha_1.

    On a schedule that does not preserve variance, x is x_t / sqrt(alpha^2 + sigma^2), which is on one that does.

    The integral follows the flow from t = 1 to T in equal steps of log-SNR, by the classical Runge-Kutta method
    (arXiv 2011.13456, Eq. 39).

    Args:
        denoise, schedule: the network, differentiable and unclipped, and its schedule.
        y: (B, C, H, W).
        steps: S, with four network calls and divergences each.
        trace: computes the divergence, e.g. `Hutchinson`.
        tick: called after each network call.

    Returns:
        (B,) nats, float64 on the CPU.

    Raises:
        UserError: alpha_T = 0, where log-SNR is infinite.
    """
    if schedule.alpha_bar[-1] == 0:
        raise UserError("This schedule ends at alpha_T = 0, where log-SNR is infinite; take one with alpha_T > 0.")

    def slope(x: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """Return dx/dlambda = -alpha sigma v = alpha sigma (sigma x0 - alpha eps), and its divergence."""
        at = schedule.at_log_snr(2 * lam)
        radius = _radius(at)
        alpha, sigma = at.alpha / radius, at.sigma / radius
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0, eps = denoise(radius * x, at)
            f = alpha * sigma * (sigma * x0 - alpha * eps)
            div = trace(f, x)
        tick()
        return f.detach(), div.detach().cpu().double()

    first = schedule(schedule.times[1])
    alpha = first.alpha / _radius(first)
    x, integral = alpha * y, torch.zeros(len(y), dtype=torch.float64)
    ends = float(schedule.log_snr[1]) / 2, float(schedule.log_snr[-1]) / 2
    lams = torch.linspace(*ends, steps + 1, dtype=torch.float64)
    for start, end in pairwise(lams):
        h = end - start
        f1, div1 = slope(x, start)
        f2, div2 = slope(x + h / 2 * f1, start + h / 2)
        f3, div3 = slope(x + h / 2 * f2, start + h / 2)
        f4, div4 = slope(x + h * f3, end)
        x = x + h / 6 * (f1 + 2 * f2 + 2 * f3 + f4)
        integral = integral + h / 6 * (div1 + 2 * div2 + 2 * div3 + div4)
    x = x.detach().cpu().double().flatten(1)
    dimensions, last = x.shape[1], schedule(schedule.T)
    std = start_std(last) / float(_radius(last))
    normal = -(x / std).square().sum(1) / 2 - dimensions * math.log(
        std * math.sqrt(2 * math.pi)
    )  # log N(x_T; 0, std^2)
    return normal + integral + dimensions * alpha.log()


def _radius(at: Level) -> Tensor:
    """Return sqrt(alpha^2 + sigma^2), exactly 1 where that preserves variance."""
    return torch.ones_like(at.alpha) if start_std(at) == 1 else (at.alpha**2 + at.sigma**2).sqrt()
