"""Rows of images as one block of square, equal pixels, with places for words beside and above them."""

import torch
from torch import Tensor

from ddim.report.sheet import Sheet, centres, line, mosaic


class Rows:
    """A block as wide as there is room; of more images in a row than fit, some are left out evenly.

    Args:
        images: (R, N, C, H, W) uint8.
        width: pixels that there are for it.
        height: likewise; None for any.
    """

    def __init__(self, images: Tensor, width: int, height: int | None = None) -> None:
        count, (self._tall, self._wide) = images.shape[1], images.shape[-2:]
        gap = line(self._wide)
        fit = max(1, min(count, (width - gap) // (self._wide + gap)))
        self.shown = torch.linspace(0, count - 1, fit).round().int().tolist()
        self._rows = len(images)
        self._pixels = mosaic(images[:, self.shown].flatten(0, 1), fit)
        high, wide = self._pixels.shape[:2]
        self._scale = max(1, min(width // wide, (height or high * width) // high))
        self.width, self.height = wide * self._scale, high * self._scale

    def draw(self, sheet: Sheet, left: int, top: int) -> None:
        """Put it on a sheet."""
        sheet.image(self._pixels, left, top, self._scale)

    def xs(self, left: int) -> list[float]:
        """Where the columns have their middles, if it lies there."""
        return centres(left, self._wide, self._scale, len(self.shown), line(self._wide))

    def ys(self, top: int) -> list[float]:
        """Likewise the rows."""
        return centres(top, self._tall, self._scale, self._rows, line(self._wide))
