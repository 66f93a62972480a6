"""The numbers of arrays: their range, type and order of axes. They become x_0 in [-1, 1], and come back at the end."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ddim.errors import UserError

DTYPES = {
    **{"uint8": torch.uint8, "int8": torch.int8, "uint16": torch.uint16, "int16": torch.int16},
    **{"float16": torch.float16, "float32": torch.float32, "float64": torch.float64},
}
"""Types of numbers that x_0, in float32, holds without loss; float64 is rounded."""
LAYOUTS = {"HW": 2, "CHW": 3, "HWC": 3}
"""Order of the axes of an image -> their number."""
MOST_CHANNELS, MOST_PIXELS = 64, 1024  # of an image, and of a side
HALF = 0.5  # of [0, 1] or [-1, 1]: numbers that fill less of it get their own range


@dataclass(frozen=True)
class Values:
    """The affine map between the numbers v of arrays and x_0: v = low + (high - low) (x_0 + 1) / 2.

    Args:
        range: (low, high), the numbers that become -1 and 1.
        dtype: the type of the numbers, one of `DTYPES`.
        layout: the order of the axes of an image, one of `LAYOUTS`.

    Raises:
        UserError: a range of zero, a range that is not finite, or an unknown type or order.
    """

    range: tuple[float, float]
    dtype: str = "float32"
    layout: str = "CHW"

    def __post_init__(self) -> None:
        object.__setattr__(self, "range", checked_range(self.range))
        for name, value, known in (("type", self.dtype, DTYPES), ("layout", self.layout, LAYOUTS)):
            if value not in known:
                raise UserError(f"Arrays of the {name} {value!r:.40} are not read; choose one of {', '.join(known)}.")

    @property
    def grey_levels(self) -> int | None:
        """Number of whole numbers in the range; None for floats, which have no levels."""
        low, high = self.range
        return None if self.dtype.startswith("float") else math.floor(high) - math.ceil(low) + 1

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return DTYPES[self.dtype].itemsize

    def to_unit(self, v: Tensor) -> Tensor:
        """Return numbers of any shape as x_0, float32."""
        middle, half = self._middle_and_half
        exact = v if v.dtype == torch.float64 else v.float()
        return ((exact - middle) / half).float()

    def restore(self, x: Tensor) -> npt.NDArray[Any]:
        """Return images (N, C, H, W) in [-1, 1] as an array of the range, type and layout of the data.

        Whole numbers are rounded to the nearest. In the layout HW the array is (N, H, W).
        """
        middle, half = self._middle_and_half
        numbers = middle + half * x.detach().cpu().double()
        if not self.dtype.startswith("float"):
            limits = np.iinfo(self.dtype)
            numbers = numbers.round().clamp(int(limits.min), int(limits.max))
        if self.layout == "HWC":
            numbers = numbers.permute(0, 2, 3, 1)
        elif self.layout == "HW":
            numbers = numbers[:, 0]
        return np.ascontiguousarray(numbers.numpy().astype(self.dtype))

    def nearest(self, v: Tensor) -> Tensor:
        """Return numbers in the type of the arrays and clamped to the range, for instance after a resize."""
        v = v.clamp(*self.range)
        return (v if self.dtype.startswith("float") else v.round()).to(DTYPES[self.dtype])

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a restored image for one of (C, H, W)."""
        channels, height, width = shape
        return {"CHW": shape, "HWC": (height, width, channels), "HW": (height, width)}[self.layout]

    @property
    def _middle_and_half(self) -> tuple[float, float]:
        low, high = self.range  # halved first: their difference may exceed the largest float
        return low / 2 + high / 2, high / 2 - low / 2


def checked_range(given: Any) -> tuple[float, float]:
    """Return (low, high) as floats. Raises `UserError` unless they are two finite numbers, low < high."""
    try:
        low, high = map(float, given)
        fits = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(f"A range is two finite numbers, low and high, with low < high, e.g. 0 and 4095; got {given}.")
    return low, high


def chosen_range(
    name: str, dtype: str, least: float, greatest: float, given: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the numbers that become -1 and 1.

    They are `given`; otherwise 0 and 255 for uint8; for floats [0, 1] or [-1, 1], the first that holds all numbers, if
    they fill half of it; and for all others the least and the greatest number.

    Args:
        name: of the data set, for the error.
        dtype: of the numbers.
        least, greatest: the extremes of all numbers of all splits.
        given: the user's range.

    Raises:
        UserError: numbers that are all equal, or outside the given range.
    """
    if given is not None:
        low, high = checked_range(given)
        if least < low or greatest > high:
            raise UserError(
                f"The numbers of {name} lie between {least:g} and {greatest:g}, not all in the range from {low:g} to "
                f"{high:g}; choose a range that holds them, or clip the arrays first."
            )
        return low, high
    if dtype == "uint8":
        return 0.0, 255.0
    if dtype.startswith("float"):
        for low, high in ((0.0, 1.0), (-1.0, 1.0)):
            if low <= least and greatest <= high and greatest - least >= HALF * (high - low):
                return low, high
    if least == greatest:
        raise UserError(
            f"All numbers of {name} are {least:g}, a range of zero, from which nothing can be learned; check the "
            "arrays, or give a range."
        )
    return least, greatest


def layout_of(shape: tuple[int, ...], name: str) -> str:
    """Return the order of the axes of an image: HW, CHW, or HWC for 1, 3 or 4 channels behind larger sides.

    Raises:
        UserError: another number of axes, no pixels, more than 64 channels, or a side above 1,024 pixels.
    """
    if len(shape) not in (2, 3):
        raise UserError(
            f"{name} has the shape {shape}; an image is an array (C, H, W), (H, W, C) with 1, 3 or 4 channels, or (H, "
            "W)."
        )
    layout = "HW" if len(shape) == 2 else "HWC" if shape[2] in (1, 3, 4) and min(shape[:2]) > 4 else "CHW"
    axes = dict(zip(layout, shape, strict=True))
    channels, sides = axes.get("C", 1), (axes["H"], axes["W"])
    if not 1 <= channels <= MOST_CHANNELS or not 1 <= min(sides) <= max(sides) <= MOST_PIXELS:
        raise UserError(
            f"{name} has the shape {shape}, read as {channels} channels of {sides[0]} × {sides[1]} pixels; an image "
            f"has 1 to {MOST_CHANNELS} channels of 1 to {MOST_PIXELS:,} pixels a side, with the channels first."
        )
    return layout


def channels_first(array: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """Return images (..., C, H, W) of arrays (..., axes of the layout), without a copy."""
    if layout == "HW":
        return array[..., None, :, :]
    return np.moveaxis(array, -1, -3) if layout == "HWC" else array
