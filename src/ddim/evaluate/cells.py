"""Grey levels and the real line: a likelihood of whole grey levels, counted with a density.

Grey level v of G stands at x0 = 2 v / (G - 1) - 1, so neighbours are 2 / (G - 1) apart and v's cell is the interval
of that width around x0: dequantised, (v + u) with u in [0, 1) is y = 2 (v + u - 1/2) / (G - 1) - 1. The cells tile
the line from half a cell below -1 to half a cell above 1, and the data stay centred where the model knows them.
"""

import math

from torch import Tensor


def half_width(grey_levels: int) -> float:
    """Half of a cell, 1 / (G - 1)."""
    return 1 / (grey_levels - 1)


def dequantise(x0: Tensor, u: Tensor, grey_levels: int) -> Tensor:
    """y = x0 + (2 u - 1) / (G - 1): a place in the cell of each pixel (arXiv 1511.01844, section 3.1).

    Args:
        x0: images in [-1, 1], at grey levels, (B, C, H, W).
        u: uniform in [0, 1), shaped like `x0`.
        grey_levels: G, of the data set.
    """
    return x0 + (2 * u - 1) * half_width(grey_levels)


def bits(log_density: Tensor, dimensions: int, grey_levels: int) -> Tensor:
    """-(log p(y) / d + log(2 / (G - 1))) / log 2: the bits per dimension of grey levels.

    Level v has the probability P(v) = E_u[p(y)] (2 / (G - 1))^d, an integral over its cell; with one u in the place
    of the expectation, the mean of these bits is an upper bound on that of -log2 P(v) / d, by Jensen's inequality.

    Args:
        log_density: log p(y) in nats, of dequantised images, (B,).
        dimensions: d, the numbers in an image: C H W.
        grey_levels: G.
    """
    return -(log_density / dimensions + math.log(2 * half_width(grey_levels))) / math.log(2)
