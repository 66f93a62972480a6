"""The loss by noise level: the weight of each level in training, and the unweighted loss in ten parts of [0, T].

The loss itself is `Denoiser.loss`. A weighting is a function of SNR = alpha^2 / sigma^2 that multiplies it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.level import Level
from ddim.noise import HELD_OUT, stream
from ddim.registry import Registry
from ddim.train.augment import Conditioned

Weighting = Callable[[Tensor, str], Tensor]
"""(SNR of each image, (B,); what the network predicts, "eps", "x0", "v" or "flow") -> weights (B,)."""

GAMMA = 5.0  # the SNR above which a level counts less (arXiv 2303.09556, section 3.4)
SIGMA_DATA = 0.5  # standard deviation of the pixels, as EDM takes it
BINS = 10  # equal parts of [0, T], or of the training steps
MAX_IMAGES = 320  # 32 in each part

weightings: Registry[Weighting] = Registry("weighting")
register = weightings.register

# Ratios of square errors at a given x_t. Those of v are for schedules that preserve variance.
_eps_error: dict[str, Callable[[Tensor], Tensor]] = {  # ||eps - eps_theta||^2 over that of the output
    "eps": torch.ones_like,
    "x0": lambda snr: snr,
    "v": lambda snr: snr / (1 + snr),
    "flow": lambda snr: (snr.sqrt() / (1 + snr.sqrt())).square(),
}
_output_error: dict[str, Callable[[Tensor], Tensor]] = {  # that of the output over ||x0 - x0_theta||^2
    "eps": lambda snr: snr,
    "x0": torch.ones_like,
    "v": lambda snr: snr + 1,
    "flow": lambda snr: (1 + snr.sqrt()).square(),
}


@register("simple")
def simple(snr: Tensor, predicts: str) -> Tensor:
    """Weight every level alike, in whatever the network predicts (DDPM, arXiv 2006.11239, Eq. 14)."""
    return torch.ones_like(snr)


@register("min-snr")
def min_snr(snr: Tensor, predicts: str) -> Tensor:
    """Weight ||eps - eps_theta||^2 by min(SNR, gamma) / SNR (arXiv 2303.09556)."""
    return (GAMMA / snr).clamp(max=1) * _eps_error[predicts](snr)


@register("soft-min-snr")
def soft_min_snr(snr: Tensor, predicts: str) -> Tensor:
    """Weight ||eps - eps_theta||^2 by gamma / (SNR + gamma): min-snr without its corner (arXiv 2401.11605)."""
    return GAMMA / (snr + GAMMA) * _eps_error[predicts](snr)


@register("clipped")
def clipped(snr: Tensor, predicts: str) -> Tensor:
    """Weight every level alike in whatever the network predicts, but the error of x0 by at most gamma.

    For eps this is min-snr. For v the weight is min(1, gamma / (SNR + 1)): the noisiest levels, which decide what an
    image shows, count in full.
    """
    return (GAMMA / _output_error[predicts](snr)).clamp(max=1)


@register("edm")
def edm(snr: Tensor, predicts: str) -> Tensor:
    """Weight ||x0 - x0_theta||^2 by SNR + 1 / sigma_data^2, sigma_data = 0.5 (arXiv 2206.00364, Table 1).

    That is SNR + 4, and (SNR + 4) / (SNR + 1) for v. The loss of a preconditioned network (`ddim.Preconditioned`) is
    then that of its own output F, with equal weights. It is meant for the times "lognormal", which are EDM's.
    """
    return (snr + SIGMA_DATA**-2) / _output_error[predicts](snr)


def names() -> list[str]:
    """Return the names of the registered weightings."""
    return list(weightings)


def weight(weighting: str, predicts: str, at: Level) -> Tensor:
    """Return the factor for the loss of each image, (B,), in the dtype of the level.

    Args:
        weighting: the name of a registered weighting; another one raises `UserError`.
        predicts: "eps", "x0", "v" or "flow".
        at: a level for each image, (B, 1, 1, 1).
    """
    return weightings[weighting]((at.alpha / at.sigma).square().flatten(), predicts)


@torch.no_grad()
def losses_by_level(model: Denoiser, images: Images, max_images: int = MAX_IMAGES, batch_size: int = 64) -> list[float]:
    """Return the mean unweighted loss in each of ten equal parts of the training steps; their mean is the whole loss.

    Every call uses the same images, times and noise: of `max_images` images, spread over the set, each gets one
    of equally many equally spaced times, and noise that depends on its index alone.

    Args:
        model: usually `Progress.average`.
        images: a held-out split, or the training images for comparison.
        max_images: the number of images at most; with fewer than ten, the empty parts are left out.
        batch_size: images at a time.
    """
    model.eval()
    count = min(max_images, len(images))
    place = torch.randperm(count, generator=torch.Generator().manual_seed(0))  # of each image's time in [0, T]
    indices = torch.arange(count) * len(images) // count
    losses = []
    for rows in torch.arange(count).tensor_split(-(-count // batch_size)):
        x0, label = images.batch(indices[rows])
        x0 = x0.to(model.device, model.dtype)
        normals = [stream(0, int(i), HELD_OUT).standard_normal(x0.shape[1:], dtype="float32") for i in rows]
        noise = torch.from_numpy(np.stack(normals)).to(x0)
        t = model.schedule.time_at(model.schedule.N * (place[rows] + 0.5) / count)
        conditioned = model
        if model.conditions is not None and images.conditions is not None:
            vectors = images.conditions[indices[rows]].to(model.device)
            conditioned = model.with_network(Conditioned(model.network, condition=vectors))
        losses.append(conditioned.loss(x0, t, noise, None if model.classes is None else label).float().cpu())
    by_time = torch.cat(losses)[place.argsort()]
    return [part.mean().item() for part in by_time.tensor_split(BINS) if len(part)]
