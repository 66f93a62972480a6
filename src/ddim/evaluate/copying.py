"""Whether samples are copies of training images, compared with held-out real images.

Each image has a ratio: its distance to the nearest training image over the mean distance of the next 50 (after
Carlini et al., arXiv 2301.13188, section 5.1). A ratio far below 1 means that the image is close to one training
image only. The threshold comes from the held-out images, which are no copies. A second test asks whether samples as
a whole are nearer to the training images than held-out images are (Meehan et al., arXiv 2004.05675, with the whole
space as one cell).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, rankdata
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.features import as_pixels, take
from ddim.evaluate.intervals import Array, Range, confidence_interval
from ddim.files import write_text
from ddim.pictures import visible, write_grid
from ddim.progress import bar, hidden

RARE = 1000  # at most one in so many held-out images may be flagged
NEXT = 50  # training images after the nearest
SHOWN, BESIDE = 12, 3  # suspects, and nearest training images of each
ROWS, BLOCK = 500, 20_000  # images at a time, training images at a time


@dataclass(frozen=True)
class Suspect:
    """A sample that is unusually close to one training image."""

    sample: int  # index of the sample
    neighbours: tuple[int, ...]  # indices of its nearest training images, the nearest first
    mirrored: tuple[bool, ...]  # for each of them, whether the mirrored image is the near one
    distance: float  # to the nearest one, the root mean square over the pixels, for images in [-1, 1]
    ratio: float  # this distance over the mean distance of the next 50


@dataclass(frozen=True)
class Memorisation:
    """How many samples look like copies, and the most suspicious ones.

    `nearer` is the share of pairs of a sample and a held-out image in which the sample is nearer to its nearest
    training image; one half without copying.
    """

    count: int  # numbers of samples and of real images
    train_count: int
    held_out_count: int
    level: float  # the ratio below which an image is flagged
    flagged: int  # number of flagged samples
    expected: float  # the number expected for samples that are no copies
    p_value: float  # the probability of so many or more flagged samples without copying
    nearer: float
    nearer_low: float  # 95% interval of `nearer`
    nearer_high: float
    suspects: tuple[Suspect, ...]  # the samples with the lowest ratios, the lowest first

    def lines(self) -> Iterator[str]:
        """Yield the result as sentences."""
        allowed = self.held_out_count // RARE
        others = f"all but {allowed} of" if allowed else "any of"
        yield (
            f"Copies: {self.flagged} of {self.count:,} samples are closer to one of {self.train_count:,} training "
            f"images than {others} {self.held_out_count:,} held-out images; {self.expected:.1f} expected, "
            f"p = {self.p_value:.2g}."
        )
        yield (
            f"A sample is nearer to the training images than a held-out image is in {self.nearer:.1%} of pairs "
            f"({self.nearer_low:.1%} to {self.nearer_high:.1%}); 50% is expected, more means copying or blur."
        )

    def pictures(self, samples: Tensor, training: Images) -> dict[str, Tensor]:
        """Return the suspects, "samples" (K, C, H, W), and their "neighbours" (K, 3, C, H, W), uint8.

        The samples and training images must be those that were given to `copies`.
        """
        rows = torch.tensor([suspect.neighbours for suspect in self.suspects])
        mirrored = torch.tensor([suspect.mirrored for suspect in self.suspects])[..., None, None, None]
        near = as_pixels(take(training, rows.flatten()))
        near = near.reshape(*rows.shape, *near.shape[1:])
        return {
            "samples": as_pixels(samples)[[suspect.sample for suspect in self.suspects]],
            "neighbours": near.where(~mirrored, near.flip(-1)),
        }

    def save(self, folder: Path, samples: Tensor, training: Images, **details: Any) -> Path:
        """Write `memorisation.json`, with the `details` as further entries, and `memorisation.png`.

        Each row of the picture shows a sample and its three nearest training images. Its path is returned.
        """
        write_text(folder / "memorisation.json", json.dumps({**details, **asdict(self)}, indent=2) + "\n")
        pictures, path = self.pictures(samples, training), folder / "memorisation.png"
        rows = torch.cat([pictures["samples"][:, None], pictures["neighbours"]], dim=1)
        write_grid(visible(rows.flatten(0, 1)), path, columns=rows.shape[1])
        return path


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
        training, held_out: the training images of the model, at least 51, and images that it was not trained on.
        mirror: whether a mirrored training image counts too; None is `training.mirror`.
        device, progress: where to compare, and whether to show a bar.

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
    suspects = []
    for i in np.argsort(ratios, kind="stable")[:SHOWN]:
        neighbours, mirrored = (tuple(one[i, :BESIDE].tolist()) for one in (near.indices, near.mirrored))
        suspects.append(Suspect(int(i), neighbours, mirrored, float(near.distances[i, 0]), float(ratios[i])))
    flags, interval = flag(ratios, ratio(held_out_near)), confidence_interval(share, error, Range(0, 1))
    return Memorisation(len(pixels), len(base), len(others), *flags, share, *interval, tuple(suspects))


def flag(ratios: Array, held_out: Array) -> tuple[float, int, float, float]:
    """Count the ratios of samples below a level that at most 1 in 1,000 held-out images lie below.

    Without copying, the rank of a sample among the held-out images is uniform. So the number of N samples below the
    k-th smallest of H held-out ratios is beta-binomial with parameters k and H + 1 - k.

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
    """
    n, m = len(x), len(y)
    both = rankdata(np.concatenate([x, y]))
    above = (m - (both[:n] - rankdata(x))) / m  # for each x, the share of y that is larger
    below = (both[n:] - rankdata(y)) / n
    return float(above.mean()), float(np.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m))


class Nearest(NamedTuple):
    """The k nearest training images of N images, the nearest first: (N, k) each."""

    distances: Array  # the root mean square over the pixels, for images in [-1, 1]
    indices: NDArray[np.int64]  # into the training images
    mirrored: NDArray[np.bool_]  # whether the mirrored training image is the near one


def nearest(
    images: Tensor, training: Tensor, k: int, mirror: bool = False, device: str | torch.device = "cpu"
) -> Nearest:
    """Return the k nearest training images of each image.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y finds them in float32. Their distances are then computed from integer grey
    levels, so that the distance of a copy is exactly 0. With `mirror`, a mirrored training image counts too, at the
    smaller of the two distances. The images are (N, C, H, W) and (M, C, H, W) uint8, M at least k.
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
                values = torch.cat([best[0], near.values.cpu()], 1)
                indices = torch.cat([best[1], near.indices.cpu() + start], 1)
                keep = values.topk(min(k, values.shape[1]), largest=False).indices
                best = values.gather(1, keep), indices.gather(1, keep)
                shown.update()
            results.append(_exact(batch, training, best[1], mirror))
    return Nearest(*(torch.cat(parts).numpy() for parts in zip(*results, strict=True)))


def _flat(pixels: Tensor, device: str | torch.device) -> Tensor:
    return pixels.to(device).flatten(1).float() / 127.5 - 1


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2)


def _exact(images: Tensor, training: Tensor, indices: Tensor, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances, indices and mirroring of these training images, sorted by distance."""
    distances = torch.empty(indices.shape, dtype=torch.float64)
    mirrored = torch.zeros(indices.shape, dtype=torch.bool)
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
