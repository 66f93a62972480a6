"""Whether samples are copies of training images, held against real images that training has not seen.

Each image gets a ratio: of its distance to the nearest training image to the mean distance of the next 50 (after
Carlini et al., arXiv 2301.13188, section 5.1). Much below 1, it lies by that one as by no other. How low is too low
the held-out images say, which are no copies. Whether samples as a whole lie nearer to the training images than
held-out ones do is the second question (Meehan et al., arXiv 2004.05675, here with all of space as one cell).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, rankdata
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.features import as_pixels
from ddim.evaluate.intervals import Range, around
from ddim.evaluate.memorisation import RARE, Memorisation, Suspect
from ddim.evaluate.nearest import Nearest, nearest

Array = NDArray[np.float64]
NEXT = 50  # training images after the nearest
SHOWN, BESIDE = 12, 3  # samples to look at, and training images beside each


def copies(
    samples: Tensor,
    training: Images,
    held_out: Images,
    *,
    mirror: bool | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Memorisation:
    """Look for copies of training images among samples.

    Args:
        samples: (N, C, H, W), uint8 or floats in [-1, 1].
        training: what the model was trained on, 52 images at least.
        held_out: real images like them that it was not trained on.
        mirror: whether a mirrored training image counts as well; None is what the set says of itself.
        device: where to compare.
        progress: whether to show a bar.

    Raises:
        UserError: images of another shape, or too few to train on.
    """
    mirror = training.mirror if mirror is None else mirror
    pixels, others, base = (as_pixels(one) for one in (samples, held_out, training))
    if not pixels.shape[1:] == others.shape[1:] == base.shape[1:]:
        raise UserError("The samples, the training and the held-out images differ in shape; bring them to one.")
    if len(base) <= NEXT:
        raise UserError(f"To say what is close takes more than {NEXT} training images; there are {len(base)}.")
    ours, theirs = (nearest(one, base, NEXT + 1, mirror, device, progress) for one in (pixels, others))
    ratios = ratio(ours)
    share, error = nearer(ours.distances[:, 0], theirs.distances[:, 0])
    return Memorisation(
        len(pixels),
        len(base),
        len(others),
        *flag(ratios, ratio(theirs)),
        share,
        *around(share, error, Range(0, 1)),
        tuple(
            Suspect(
                int(i),
                tuple(ours.indices[i, :BESIDE].tolist()),
                tuple(ours.mirrored[i, :BESIDE].tolist()),
                float(ours.distances[i, 0]),
                float(ratios[i]),
            )
            for i in np.argsort(ratios, kind="stable")[:SHOWN]
        ),
    )


def flag(ratios: Array, honest: Array) -> tuple[float, int, float, float]:
    """How many ratios lie below a level that at most 1 in 1,000 honest ones undercut.

    Among honest ratios a new one falls anywhere alike, so how many of N new ones lie below the k-th least of H is
    beta-binomial, with parameters k and H + 1 - k.

    Returns:
        The level; how many lie below; how many would if they were honest; the probability that as many would.
    """
    k = len(honest) // RARE + 1
    level = float(np.sort(honest)[k - 1])
    flagged, chance = int((ratios < level).sum()), betabinom(len(ratios), k, len(honest) + 1 - k)
    return level, flagged, float(chance.mean()), float(chance.sf(flagged - 1))


def ratio(found: Nearest) -> Array:
    """d_1 / mean(d_2 .. d_51) of each image; 1 where all are 0."""
    first, rest = found.distances[:, 0], found.distances[:, 1:].mean(1)
    return np.where(rest > 0, first / np.where(rest > 0, rest, 1), 1.0)


def nearer(ours: Array, theirs: Array) -> tuple[float, float]:
    """The share of pairs in which ours is the smaller, ties half, and its standard error (DeLong et al., 1988).

    It is Mann and Whitney's U over N M; 1 - this share is the U statistic of arXiv 2004.05675, section 3.
    """
    n, m = len(ours), len(theirs)
    both = rankdata(np.concatenate([ours, theirs]))
    above = (m - (both[:n] - rankdata(ours))) / m  # of each of ours, the share of theirs that is larger
    below = (both[n:] - rankdata(theirs)) / n
    return float(above.mean()), float(np.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m))
