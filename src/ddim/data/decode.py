"""One image file of any usual kind, as a small square of pixels."""

from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ddim.data.modes import flatten

VERSION = 1  # of what this file and `modes` make of an image: raise it, and every cached copy is made anew

_READ = "png apng jpg jpeg jpe jfif mpo webp bmp dib tif tiff gif ppm pgm pbm pnm"
_NOT_READ = "heic heif avif jxl jp2 svg psd tga ico exr hdr raw dng cr2 nef arw"
SUFFIXES = frozenset(f".{one}" for one in _READ.split())
FOREIGN = frozenset(f".{one}" for one in _NOT_READ.split())
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")  # JPEG includes MPO; no other decoder is run
LARGEST = 89_478_485  # pixels, Pillow's own limit: a file of a few kilobytes may claim to hold any number


class Unreadable(Exception):
    """Why a file is left out, in words that go on from its name."""


class Picture(NamedTuple):
    """A decoded image: (3, size, size) uint8, and what the file was."""

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    mode: str
    format: str


def measure(file: BinaryIO) -> tuple[int, int]:
    """Width and height as the head of the file says. Raises `Unreadable` if it has none."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.size
    except Exception as error:
        raise Unreadable(_reason(error)) from error


def decode(file: BinaryIO, size: int) -> Picture:
    """The central square of an image at size x size pixels.

    Turned as its EXIF data says, in 8 bits and on white (see `ddim.data.modes`), cut to the largest square in
    the middle, then resized: bicubic, antialiased. Of an animation or of several pages, the first.

    Args:
        file: the bytes of a PNG, JPEG, WebP, BMP, TIFF, GIF or PNM, whatever the file is called.
        size: pixels a side.

    Raises:
        Unreadable: the file is broken, no image, of another format, or too large.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            mode, kind = image.mode, image.format or "?"
            if width * height > LARGEST:
                raise Unreadable(
                    f"has {width * height / 1e6:.0f} million pixels, more than the {LARGEST // 10**6} allowed"
                )
            # a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, many times faster; three times what is needed
            # leaves nothing to see of it
            image.draft(image.mode, (3 * size, 3 * size))
            image.load()
            square = _square(flatten(_upright(image)), size)
    except Unreadable:
        raise
    except Exception as error:  # a broken file makes Pillow's decoders raise almost anything
        raise Unreadable(_reason(error)) from error
    return Picture(np.ascontiguousarray(np.moveaxis(np.asarray(square), -1, 0)), width, height, mode, kind)


def _upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as the camera meant it; as it is where the EXIF data are broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = (left, top, left + side, top + side)
    if side == size:
        image = image.crop(square)
    else:
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=square)
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "holds no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than the {LARGEST // 10**6} million pixels allowed"
    words = " ".join(str(error).split())
    return f"cannot be decoded: {words[:120] or type(error).__name__}"
