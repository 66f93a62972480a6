"""The nearest training images of some images, pixel by pixel."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

ROWS, BLOCK = 500, 20_000  # images at a time, training images at a time


class Nearest(NamedTuple):
    """The nearest first.

    Attributes:
        distances: (N, k), the root mean square over the pixels, in units in which images lie in [-1, 1].
        indices: (N, k) into the training images.
        mirrored: (N, k) whether it is the mirrored image.
    """

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


def nearest(
    images: Tensor,
    training: Tensor,
    k: int,
    mirror: bool = False,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Nearest:
    """The k nearest training images of each image; one and its mirror image count as one, at the lesser distance.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y finds them in float32; their distances are then taken anew from whole grey
    levels, so that of a copy is 0.

    Args:
        images: (N, C, H, W) uint8.
        training: (M, C, H, W) uint8, M at least k.
        k: how many.
        mirror: whether training images may be mirrored left to right.
        device: where to compare.
        progress: whether to show a bar.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    blocks = range(0, len(training), BLOCK)
    total = -(-len(images) // ROWS) * len(blocks)
    with tqdm(total=total, desc="nearest", unit="block", disable=None if progress else True) as bar:
        for first in range(0, len(images), ROWS):
            some = images[first : first + ROWS]
            x = _flat(some, device)
            best = torch.full((len(some), 0), torch.inf), torch.empty(len(some), 0, dtype=torch.long)
            for start in blocks:
                block = training[start : start + BLOCK]
                apart = _apart(x, _flat(block, device))
                if mirror:
                    apart = torch.minimum(apart, _apart(x, _flat(block.flip(-1), device)))
                near = apart.topk(min(k, len(block)), largest=False)
                merged = (
                    torch.cat([best[0], near.values.cpu()], 1),
                    torch.cat([best[1], near.indices.cpu() + start], 1),
                )
                keep = merged[0].topk(min(k, merged[0].shape[1]), largest=False).indices
                best = merged[0].gather(1, keep), merged[1].gather(1, keep)
                bar.update()
            found.append(_exact(some, training, best[1], mirror))
    distances, indices, mirrored = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return Nearest(distances, indices, mirrored)


def _flat(pixels: Tensor, device: str | torch.device) -> Tensor:
    """(N, C H W) in [-1, 1]."""
    return pixels.to(device).flatten(1).float() / 127.5 - 1


def _apart(x: Tensor, y: Tensor) -> Tensor:
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2)


def _exact(images: Tensor, training: Tensor, indices: Tensor, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The distances to these training images, in order."""
    distances, flipped = (
        torch.empty(indices.shape, dtype=torch.float64),
        torch.zeros(indices.shape, dtype=torch.bool),
    )
    for i, (image, rows) in enumerate(zip(images.int(), indices, strict=True)):
        near = training[rows].int()
        distances[i] = _rms(image - near)
        if mirror:
            other = _rms(image - near.flip(-1))
            flipped[i] = other < distances[i]
            distances[i] = torch.minimum(distances[i], other)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), indices.gather(1, order), flipped.gather(1, order)


def _rms(levels: Tensor) -> Tensor:
    return levels.flatten(1).double().square().mean(1).sqrt() / 127.5
