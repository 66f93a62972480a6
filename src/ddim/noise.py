"""Randomness as an argument: one counter-based stream per image.

Philox (Salmon et al., 2011) computes random bits from a key and a counter, without a state. The key is the pair
(seed, index), so image i of seed s gets the same noise at any batch size, on any device.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ddim.errors import number

# Domains: the streams of the same (seed, index) in two domains are unrelated.
SAMPLING, TRAINING, ORDER, HELD_OUT, TIMES, DROPOUT, LIKELIHOOD, DISTILLATION = range(8)


def stream(seed: int, index: int, domain: int = SAMPLING) -> np.random.Generator:
    """Return the random stream of one image, or of one training step.

    Args:
        seed, index: a seed, and the index of the image or step; whole numbers in [0, 2^64), else a `UserError`.
        domain: purpose of the stream, one of the constants above.
    """
    given, allowed = {"seed": seed, "index": index}, "a whole number from 0 to 2^64 - 1"
    key = [number(f"The {name}", value, int, 0, 2**64 - 1, allowed) for name, value in given.items()]
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64), counter=[0, 0, 0, domain]))


class ImageNoise:
    """A `Noise` for a batch in which row j is image `indices[j]`.

    Every call continues each image's own stream, so the k-th draw of image i depends on (seed, i, k) alone. See
    `stream` for the seed, the indices and the domain.
    """

    def __init__(self, seed: int, indices: Iterable[int], domain: int = SAMPLING) -> None:
        self.streams = [stream(seed, index, domain) for index in indices]

    def __call__(self, like: Tensor) -> Tensor:
        """Return a standard normal draw like `like`, (B, ...): drawn on the CPU in float32, then converted."""
        draws = [stream.standard_normal(like.shape[1:], dtype=np.float32) for stream in self.streams]
        return torch.from_numpy(np.stack(draws)).to(like)
