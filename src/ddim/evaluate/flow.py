"""The exact likelihood of the probability flow, in bits per dimension (arXiv 2011.13456, Eq. 39).

With y = x / alpha and s = sigma / alpha the flow is dy/ds = eps (DDIM, Eq. 14), and along it d log p(y) / ds =
-div eps. Here it runs in x, so that nothing grows, and in lambda = log(alpha / sigma), in which it is smooth:
dx/dlambda = -alpha sigma v with v = alpha eps - sigma x0, the same path.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import batches, chosen
from ddim.evaluate.dequantise import dequantisations
from ddim.evaluate.mean import Mean
from ddim.evaluate.trace import Hutchinson, Trace
from ddim.level import Denoise
from ddim.noise import LIKELIHOOD, stream
from ddim.schedule import Schedule

STEPS = 20
STAGES = 4  # network calls in a step


class Flow(NamedTuple):
    """The likelihood, and the same in half as many steps: how far apart they are tells the error of the integral.

    Attributes:
        bits: per dimension; more than the grey levels cost by what dequantisation costs. The interval is over
            images, and over what they drew.
        halved: the same for the same draws in `steps` / 2 steps.
        steps: S.
        calls: of the network and back, for each image: 4 S, and 2 S more for `halved`. (And one without the way
            back for the dequantisation by noise.)
    """

    bits: Mean
    halved: Mean
    steps: int
    calls: int


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
    """The bits that the flow needs for an image, given its label if the model has classes.

    The density is that of y = x_1 / alpha_1: the network was never trained below t = 1, so the likelihood is that
    of images drawn by the flow from T to 1 and then brought to grey levels. "uniform" dequantisation brings each
    number to the nearest level: where levels, 2 / (G - 1) apart, are closer than the noise at t = 1, which is 0.01
    on the linear schedule, that noise costs bits. "noise" has the network remove it, by the decoder of the bound,
    and may be compared with the bound. The flow itself is not clipped.

    Args:
        model: in eval mode afterwards, on the device to use.
        images: usually a held-out split, with the grey levels that the bits are counted for.
        count: how many of them, spread over the set; None is all.
        steps: S of the classical Runge-Kutta method, even.
        dequantisation: how grey levels get a density, "uniform" or "noise".
        seed: of each image's place y and of its probe for the trace, its own at any batch size.
        batch_size: images at a time.
        progress: whether to show a bar.

    Raises:
        UserError: images that are not the model's kind, a count or number of steps that cannot be, an unknown
            dequantisation, or a schedule with alpha_T = 0.
    """
    rows, dequantise = chosen(model, images, count), dequantisations[dequantisation]
    if steps < 2 or steps % 2:
        raise UserError(f"The number of steps must be even, since half as many are taken too; got {steps}.")
    model.eval()
    scale = 1 / (math.log(2) * math.prod(model.shape))  # from nats to bits per dimension
    calls = STAGES * (steps + steps // 2)
    found: dict[int, list[Tensor]] = {steps: [], steps // 2: []}
    with tqdm(total=len(rows) * calls, desc="flow", unit="call", disable=None if progress else True) as bar:
        for batch in batches(model, images, rows, batch_size):
            streams = [stream(seed, row, LIKELIHOOD) for row in batch.rows]
            trace = Hutchinson(_signs(batch.x0, streams))
            denoise = model.denoise(batch.label, clip=False)
            y, cost = dequantise(denoise, batch.x0, streams, model.schedule, images.grey_levels)
            for S, values in found.items():
                density = log_density(denoise, y, model.schedule, S, trace, partial(bar.update, len(y)))
                values.append(scale * (cost - density))
    whole, halved = (Mean.of(torch.cat(values)) for values in found.values())
    return Flow(whole, halved, steps, calls)


def _signs(like: Tensor, streams: Sequence[np.random.Generator]) -> Tensor:
    """-1 or 1 for each number of each image, from its own stream."""
    return torch.from_numpy(np.stack([2 * one.integers(0, 2, like.shape[1:]) - 1 for one in streams])).to(like)


def log_density(
    denoise: Denoise,
    y: Tensor,
    schedule: Schedule,
    steps: int,
    trace: Trace,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """log p(y) of y = x_1 / alpha_1: log N(x_T; 0, I) + the integral of div(dx/dlambda) + d log alpha_1 (Eq. 39).

    The integral is taken up the flow from t = 1 to T in equal steps of log-SNR, by the classical Runge-Kutta
    method.

    Args:
        denoise: the network, differentiable and unclipped.
        y: (B, C, H, W).
        schedule: of the network.
        steps: S, with four calls and divergences each.
        trace: how the divergence is computed.
        tick: called after each call.

    Returns:
        (B,) nats, float64 on the CPU.

    Raises:
        UserError: alpha_T = 0, where log-SNR has no end.
    """
    if schedule.alpha_bar[-1] == 0:
        raise UserError("This schedule ends at alpha_T = 0, where log-SNR is infinite; take one that ends above.")

    def slope(x: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """dx/dlambda = -alpha sigma v = alpha sigma (sigma x0 - alpha eps), and its divergence."""
        at = schedule.at_log_snr(2 * lam)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0, eps = denoise(x, at)
            f = at.alpha * at.sigma * (at.sigma * x0 - at.alpha * eps)
            div = trace(f, x)
        tick()
        return f.detach(), div.detach().cpu().double()

    alpha = schedule(1.0).alpha
    x, integral = alpha * y, torch.zeros(len(y), dtype=torch.float64)
    first, last = float(schedule.log_snr[1]) / 2, float(schedule.log_snr[-1]) / 2
    lams = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    for start, end in pairwise(lams):
        h = end - start
        f1, div1 = slope(x, start)
        f2, div2 = slope(x + h / 2 * f1, start + h / 2)
        f3, div3 = slope(x + h / 2 * f2, start + h / 2)
        f4, div4 = slope(x + h * f3, end)
        x = x + h / 6 * (f1 + 2 * f2 + 2 * f3 + f4)
        integral = integral + h / 6 * (div1 + 2 * div2 + 2 * div3 + div4)
    x = x.detach().cpu().double().flatten(1)
    dimensions = x.shape[1]
    normal = -x.square().sum(1) / 2 - dimensions / 2 * math.log(2 * math.pi)  # log N(x_T; 0, I)
    return normal + integral + dimensions * alpha.log()
