"""Whether samples are copies of training images, compared with held-out real images.

Each image has a ratio: its distance to the nearest training image over the mean distance of the next 50 (after
Carlini et al., arXiv 2301.13188, section 5.1). A ratio far below 1 means that the image is close to one training
image only. The threshold comes from the held-out images, which are no copies. A second test asks whether samples as
a whole are nearer to the training images than held-out images are (Meehan et al., arXiv 2004.05675, with the whole
space as one cell).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, rankdata
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.features import as_pixels
from ddim.evaluate.intervals import Range, confidence_interval
from ddim.evaluate.memorisation import RARE, Memorisation, Suspect
from ddim.progress import bar, hidden

Array = NDArray[np.float64]
NEXT = 50  # training images after the nearest
SHOWN, BESIDE = 12, 3  # suspects, and nearest training images of each
ROWS, BLOCK = 500, 20_000  # images at a time, training images at a time


def copies(
    samples: Tensor,
    training: Images,
    held_out: Images,
    *,
    mirror: bool | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Memorisation:
    """Search for copies of training images among samples.

    Args:
        samples: (N, C, H, W), uint8 or floats in [-1, 1].
        training: the training images of the model, at least 51.
        held_out: real images of the same kind that it was not trained on.
        mirror: whether a mirrored training image counts too; None is `training.mirror`.
        device: where to compare.
        progress: whether to show a bar.

    Raises:
        UserError: images of different shapes, or too few training images.
    """
    mirror = training.mirror if mirror is None else mirror
    pixels, others, base = (as_pixels(images) for images in (samples, held_out, training))
    if not pixels.shape[1:] == others.shape[1:] == base.shape[1:]:
        raise UserError("Samples, training images and held-out images differ in shape; bring them to one shape.")
    if len(base) <= NEXT:
        raise UserError(f"The search needs more than {NEXT} training images; there are {len(base)}.")
    with hidden(not progress):
        near, held_out_near = (nearest(images, base, NEXT + 1, mirror, device) for images in (pixels, others))
    ratios = ratio(near)
    share, error = nearer_share(near.distances[:, 0], held_out_near.distances[:, 0])
    return Memorisation(
        len(pixels),
        len(base),
        len(others),
        *flag(ratios, ratio(held_out_near)),
        share,
        *confidence_interval(share, error, Range(0, 1)),
        tuple(
            Suspect(
                int(i),
                tuple(near.indices[i, :BESIDE].tolist()),
                tuple(near.mirrored[i, :BESIDE].tolist()),
                float(near.distances[i, 0]),
                float(ratios[i]),
            )
            for i in np.argsort(ratios, kind="stable")[:SHOWN]
        ),
    )


def flag(ratios: Array, held_out: Array) -> tuple[float, int, float, float]:
    """Count the ratios of samples below a level that at most 1 in 1,000 held-out images lie below.

    Without copying, the rank of a sample among the held-out images is uniform. So the number of N samples below the
    k-th smallest of H held-out ratios is beta-binomial with parameters k and H + 1 - k.

    Args:
        ratios: (N,) of the samples.
        held_out: (H,) of held-out images.

    Returns:
        The level, the number below it, the expected number without copying, and the probability of so many or more.
    """
    k = len(held_out) // RARE + 1
    level = float(np.sort(held_out)[k - 1])
    flagged, chance = int((ratios < level).sum()), betabinom(len(ratios), k, len(held_out) + 1 - k)
    return level, flagged, float(chance.mean()), float(chance.sf(flagged - 1))


def ratio(near: "Nearest") -> Array:
    """Return d_1 / mean(d_2 .. d_51) of each image; 1 where all are 0."""
    first, rest = near.distances[:, 0], near.distances[:, 1:].mean(1)
    return np.where(rest > 0, first / np.where(rest > 0, rest, 1), 1.0)


def nearer_share(x: Array, y: Array) -> tuple[float, float]:
    """Return the share of pairs with x < y, ties counting half, and its standard error (DeLong et al., 1988).

    It is Mann and Whitney's U over N M; 1 minus this share is the U statistic of arXiv 2004.05675, section 3.

    Args:
        x, y: (N,) and (M,) distances.
    """
    n, m = len(x), len(y)
    both = rankdata(np.concatenate([x, y]))
    above = (m - (both[:n] - rankdata(x))) / m  # for each x, the share of y that is larger
    below = (both[n:] - rankdata(y)) / n
    return float(above.mean()), float(np.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m))


class Nearest(NamedTuple):
    """The k nearest training images of N images, the nearest first.

    Attributes:
        distances: (N, k), the root mean square over the pixels, for images in [-1, 1].
        indices: (N, k) into the training images.
        mirrored: (N, k) whether the mirrored training image is the near one.
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
) -> Nearest:
    """Return the k nearest training images of each image.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y finds them in float32. Their distances are then computed from integer grey
    levels, so that the distance of a copy is exactly 0.

    Args:
        images: (N, C, H, W) uint8.
        training: (M, C, H, W) uint8, M at least k.
        k: how many.
        mirror: whether the mirrored training image counts too, at the smaller of the two distances.
        device: where to compare.
    """
    results: list[tuple[Tensor, Tensor, Tensor]] = []
    blocks = range(0, len(training), BLOCK)
    total = -(-len(images) // ROWS) * len(blocks)
    with bar(total=total, desc="nearest", unit="block") as shown:
        for first in range(0, len(images), ROWS):
            batch = images[first : first + ROWS]
            x = _flat(batch, device)
            best = torch.full((len(batch), 0), torch.inf), torch.empty(len(batch), 0, dtype=torch.long)
            for start in blocks:
                block = training[start : start + BLOCK]
                squared = _squared_distances(x, _flat(block, device))
                if mirror:
                    squared = torch.minimum(squared, _squared_distances(x, _flat(block.flip(-1), device)))
                near = squared.topk(min(k, len(block)), largest=False)
                merged = (
                    torch.cat([best[0], near.values.cpu()], 1),
                    torch.cat([best[1], near.indices.cpu() + start], 1),
                )
                keep = merged[0].topk(min(k, merged[0].shape[1]), largest=False).indices
                best = merged[0].gather(1, keep), merged[1].gather(1, keep)
                shown.update()
            results.append(_exact(batch, training, best[1], mirror))
    distances, indices, mirrored = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
    return Nearest(distances, indices, mirrored)


def _flat(pixels: Tensor, device: str | torch.device) -> Tensor:
    """(N, C H W) in [-1, 1]."""
    return pixels.to(device).flatten(1).float() / 127.5 - 1


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2)


def _exact(images: Tensor, training: Tensor, indices: Tensor, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, indices and mirroring of these training images, by distance."""
    distances, mirrored = (
        torch.empty(indices.shape, dtype=torch.float64),
        torch.zeros(indices.shape, dtype=torch.bool),
    )
    for i, (image, rows) in enumerate(zip(images.int(), indices, strict=True)):
        near = training[rows].int()
        distances[i] = _rms(image - near)
        if mirror:
            other = _rms(image - near.flip(-1))
            mirrored[i] = other < distances[i]
            distances[i] = torch.minimum(distances[i], other)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), indices.gather(1, order), mirrored.gather(1, order)


def _rms(levels: Tensor) -> Tensor:
    return levels.flatten(1).double().square().mean(1).sqrt() / 127.5
