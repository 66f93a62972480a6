"""Images as picture files, pixel by pixel."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddim.files import writing


def grid(images: Tensor, columns: int | None = None, scale: int | None = None, gap: int = 1) -> Image.Image:
    """Return images side by side, row by row, on a grey ground.

    Args:
        images: (N, C, H, W) uint8 with one or three channels.
        columns: images in a row; None makes the grid as square as possible.
        scale: side of a pixel in the picture; None makes each image about 64 wide.
        gap: pixels of the images between two of them.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = scale or max(1, 64 // width)
    rows = math.ceil(count / columns)
    size = (channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    sheet = torch.full(size, 96, dtype=torch.uint8)
    for i, image in enumerate(images.cpu()):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        sheet[:, top : top + height, left : left + width] = image
    picture = _picture(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def write_grid(images: Tensor, path: str | Path, columns: int | None = None) -> None:
    """Write `grid(images, columns)` to a file, whole or not at all. Raises `UserError` if it cannot be written."""
    with writing(path) as draft:
        grid(images, columns).save(draft, format="PNG")


def write_each(images: Tensor, folder: str | Path, first: int = 0) -> None:
    """Write each image to a file of its own, 000000.png and so on, counted from `first`."""
    for i, image in enumerate(images.cpu(), start=first):
        with writing(Path(folder) / f"{i:06d}.png") as draft:
            _picture(image).save(draft, format="PNG")


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())
