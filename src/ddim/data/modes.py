"""From whatever numbers a file holds for a pixel to 8 bits of grey or of red, green and blue."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def flatten(image: Image.Image) -> Image.Image:
    """An image in mode L or RGB.

    - 16 bits of grey: scaled, 65535 to 255.
    - 32 bits, whole or real numbers: white is 1 (real numbers alone), 255 or 65535, the first that no pixel
      exceeds; an image with numbers below 0 or above that is stretched from its least to its greatest number.
      What is no number is black.
    - Transparency: laid on white.
    - A palette, CMYK, YCbCr, HSV, LAB, 1 bit: converted. Colour profiles are not applied.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, by an older Pillow
        return Image.fromarray(_scaled(np.asarray(image), (65535,)))
    if image.mode == "I":
        return Image.fromarray(_scaled(np.asarray(image), (255, 65535)))
    if image.mode == "F":
        return Image.fromarray(_scaled(np.asarray(image), (1, 255, 65535)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _scaled(values: npt.NDArray[Any], whites: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.zeros(numbers.shape, np.uint8)
    least, greatest = float(numbers[finite].min()), float(numbers[finite].max())
    white = next((float(white) for white in whites if least >= 0 and greatest <= white), None)
    if white is None:
        numbers -= least
        white = max(greatest - least, np.finfo(float).tiny)
    numbers[~finite] = 0
    return np.asarray((numbers / white * 255).round().clip(0, 255), np.uint8)
