"""Randomness as an argument: one counter-based stream per image.

Philox (Salmon et al., 2011) turns a key and a counter into random bits without a state to carry. The key
is the pair (seed, index), so image i of seed s meets the same noise at any batch size, on any device.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ddim.errors import UserError

SAMPLING, TRAINING, ORDER, HELD_OUT, TIMES, DROPOUT, LIKELIHOOD = range(
    7
)  # domains: the same (seed, index) is unrelated in each


def stream(seed: int, index: int, domain: int = SAMPLING) -> np.random.Generator:
    """The random stream of one image, or of one training step.

    Args:
        seed: any whole number in [0, 2^64).
        index: which image (or step) of that seed, in [0, 2^64).
        domain: what the stream is for.

    Raises:
        UserError: a seed or index outside its range.
    """
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**64:
            raise UserError(f"The {name} must be a whole number from 0 to 2^64 - 1; got {value}.")
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, domain]))


class ImageNoise:
    """A `Noise`: draws for a batch in which row j belongs to image `indices[j]`.

    Every call goes on in each image's own stream, so the k-th draw of image i depends on (seed, i, k) alone.

    Args:
        seed: as for `stream`.
        indices: the index of each image of the batch.
        domain: what the streams are for.
    """

    def __init__(self, seed: int, indices: Iterable[int], domain: int = SAMPLING) -> None:
        self.streams = [stream(seed, index, domain) for index in indices]

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal (B, ...), drawn on the CPU in float32, then in the dtype and on the device of `like`."""
        draws = [one.standard_normal(like.shape[1:], dtype=np.float32) for one in self.streams]
        return torch.from_numpy(np.stack(draws)).to(like)
