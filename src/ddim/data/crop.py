"""From an image of any size to the size that is asked for: a window of its aspect, or the whole image with bars."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ddim.errors import UserError
from ddim.text import did_you_mean

Crop = Literal["centre", "random", "fit"]
CROPS: tuple[str, ...] = get_args(Crop)
"""centre and random: the largest window of the aspect asked for. fit: the whole image, with black bars."""


class Placed(NamedTuple):
    """Which part of an image is resized, to which size, and where that lies in the result. All are (height, width)."""

    corner: tuple[int, int]  # top and left of the part
    part: tuple[int, int]
    size: tuple[int, int]  # of the part after resizing
    at: tuple[int, int]  # top and left of the resized part in the result


def check_crop(crop: Any) -> None:
    """Raise `UserError` for an unknown crop."""
    if crop not in CROPS:
        guess = did_you_mean(crop, CROPS) if isinstance(crop, str) else ""
        raise UserError(f"There is no crop {crop!r:.40}{guess}; choose one of {', '.join(CROPS)}.")


def placed(sides: tuple[int, int], size: tuple[int, int], crop: str = "centre", key: str = "") -> Placed:
    """Return how an image of `sides` is brought to `size`.

    Args:
        sides, size: (height, width) of the image, and of the result.
        crop: one of `CROPS`.
        key: hexadecimal digits, for instance a hash of the image, that decide the place of a random window.
    """
    (height, width), (tall, wide) = sides, size
    if crop == "fit":
        scale = min(tall / height, wide / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        return Placed((0, 0), sides, inner, ((tall - inner[0]) // 2, (wide - inner[1]) // 2))
    scale = min(height / tall, width / wide)
    part = max(1, min(height, round(tall * scale))), max(1, min(width, round(wide * scale)))
    room = height - part[0], width - part[1]
    if crop == "random":
        share = int(key[:12] or "0", 16) / 16 ** len(key[:12] or "0")
        corner = int(share * (room[0] + 1)), int(share * (room[1] + 1))
    else:
        corner = room[0] // 2, room[1] // 2
    return Placed(corner, part, size, (0, 0))


def bring(images: Tensor, size: tuple[int, int], crop: str = "centre", key: str = "", black: float = -1.0) -> Tensor:
    """Return images (N, C, H, W) at `size`, bicubic with antialiasing, in float32.

    Args:
        images: floating-point numbers.
        size, crop, key: see `placed`.
        black: the number of the bars.
    """
    where = placed((images.shape[2], images.shape[3]), size, crop, key)
    (top, left), (high, wide) = where.corner, where.part
    part = images[..., top : top + high, left : left + wide].float()
    if where.part != where.size:
        part = interpolate(part, where.size, mode="bicubic", antialias=True)
    if where.size == size:
        return part
    whole = torch.full((*images.shape[:2], *size), black)
    whole[..., where.at[0] : where.at[0] + where.size[0], where.at[1] : where.at[1] + where.size[1]] = part
    return whole
