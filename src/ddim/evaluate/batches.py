"""Batches of images in the form that a model takes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.contract import check_data
from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError


class Batch(NamedTuple):
    """Some images of a set."""

    rows: list[int]  # their indices in the set, which select their noise
    x0: Tensor  # (B, C, H, W) in [-1, 1], on the device and in the `image_dtype` of the model
    label: Tensor | None  # (B,), None for a model without classes


def spread_rows(model: Denoiser, images: Images, count: int | None) -> Tensor:
    """Return the indices of `count` images, or of all, spread evenly over a set that fits the model.

    Raises:
        UserError: a count out of range, or images of another shape or number of classes than the model's.
    """
    check_data(images, model.shape, model.classes)
    number = len(images) if count is None else count
    if not 1 <= number <= len(images):
        raise UserError(f"{images.name} has {len(images)} images in this split; ask for 1 to all, not {number}.")
    return torch.arange(number) * len(images) // number


def levels_of(images: Images) -> int:
    """Return the number of grey levels. Raises `UserError` for floats, which have none."""
    if images.grey_levels is None:
        raise UserError(
            f"{images.name} holds floats, not grey levels, so its likelihood has no bits; use images of whole numbers."
        )
    return images.grey_levels


def batches(model: Denoiser, images: Images, rows: Tensor, size: int) -> Iterator[Batch]:
    """Yield the images at `rows`, from `spread_rows`, in batches of at most `size`.

    Raises:
        UserError: a size below 1, at the first batch.
    """
    if size < 1:
        raise UserError(f"A batch must hold at least 1 image; got {size}.")
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        x0, label = images.batch(part)
        yield Batch(part.tolist(), x0.to(model.device, model.image_dtype), None if model.classes is None else label)
