"""The loss by noise level: on held-out images and on trained ones, at the same times and with the same noise."""

import torch

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.noise import HELD_OUT, stream

BINS = 10  # equal parts of [0, T]
MOST = 320  # images, so 32 in each part


@torch.no_grad()
def losses_by_level(model: Denoiser, images: Images, most: int = MOST, batch_size: int = 64) -> list[float]:
    """The mean loss in each of ten equal parts of [0, T], unweighted; their mean is the loss over all times.

    Every call sees the same: image i of the first `most`, spread over the set, at one of as many equally spaced
    times, with noise that depends on i alone.

    Args:
        model: usually `Progress.average`.
        images: a held-out split, or the training images themselves for comparison.
        most: how many images at most; with fewer than ten, some parts are none and are left out.
        batch_size: images at a time.
    """
    model.eval()
    number = min(most, len(images))
    place = torch.randperm(number, generator=torch.Generator().manual_seed(0))  # in [0, T], of each image
    chosen = torch.arange(number) * len(images) // number
    losses = []
    for rows in torch.arange(number).tensor_split(-(-number // batch_size)):
        x0, label = images.batch(chosen[rows])
        x0 = x0.to(model.device, model.dtype)
        noise = torch.stack([_noise(int(i), x0.shape[1:]) for i in rows]).to(x0)
        t = model.schedule.T * (place[rows] + 0.5) / number
        losses.append(model.loss(x0, t, noise, None if model.classes is None else label).float().cpu())
    every = torch.cat(losses)[place.argsort()]  # by time
    return [part.mean().item() for part in every.tensor_split(BINS) if len(part)]


def held_out_loss(model: Denoiser, images: Images, most: int = MOST) -> float:
    """The mean loss on images that training never sees, at times and noise that are the same at every call."""
    parts = losses_by_level(model, images, most)
    return sum(parts) / len(parts)


def _noise(i: int, shape: torch.Size) -> torch.Tensor:
    return torch.from_numpy(stream(0, i, HELD_OUT).standard_normal(shape, dtype="float32"))
