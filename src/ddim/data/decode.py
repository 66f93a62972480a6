"""Decode an image file of any usual format to a few 8-bit pixels."""

from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ddim.data.crop import placed
from ddim.pictures import KIND, SHEET
from ddim.text import one_line

VERSION = 2  # of the pixels, the splits and the facts: raise it when they change, and every copy is decoded again

_READ = "png apng jpg jpeg jpe jfif mpo webp bmp dib tif tiff gif ppm pgm pbm pnm"
_NOT_READ = "heic heif avif jxl jp2 svg psd tga ico exr hdr raw dng cr2 nef arw"
SUFFIXES = frozenset(f".{suffix}" for suffix in _READ.split())
HEIF = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")  # the brands of HEIC and AVIF
FOREIGN = frozenset(f".{suffix}" for suffix in _NOT_READ.split())  # image formats that are not read
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")  # JPEG includes MPO; no other decoder is run
MAX_PIXELS = 89_478_485  # Pillow's own limit: a file of a few kilobytes may claim any number of pixels


class Unreadable(Exception):
    """A file cannot be read. The message is a clause that follows the file's name: "is empty"."""


class Picture(NamedTuple):
    """A decoded image: pixels (C, H, W), uint8 in three channels; width, height, mode and format of the file."""

    pixels: npt.NDArray[Any]
    width: int
    height: int
    mode: str
    format: str


def decode(file: BinaryIO, size: int | tuple[int, int], crop: str = "centre", key: str = "") -> Picture:
    """Return an image at another size.

    The image is rotated by its EXIF orientation, converted to 8 bits on white (see `flatten`), cropped to the
    largest window of the aspect of `size`, and resized: bicubic, antialiased. Of several frames or pages, the first is
    read.

    Args:
        file: the bytes of a PNG, JPEG, WebP, BMP, TIFF, GIF or PNM, whatever the file is called.
        size: (height, width) in pixels, or the side of a square.
        crop, key: which part of the image, see `ddim.data.crop.placed`.

    Raises:
        Unreadable: the file is broken, not an image, of another format, too large, or a sheet that ddim drew.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if is_sheet(image):
                raise Unreadable("is a sheet of images or a figure that ddim drew")
            width, height = image.size
            mode, kind = image.mode, image.format or "?"
            if width * height > MAX_PIXELS:
                raise Unreadable(
                    f"has {width * height / 1e6:.0f} million pixels, more than the {MAX_PIXELS // 10**6} allowed"
                )
            # A JPEG is decoded many times faster at 1/2, 1/4 or 1/8 of its size; at three times the size that is
            # needed, the difference is invisible.
            tall, wide = (size, size) if isinstance(size, int) else size
            image.draft(image.mode, (3 * wide, 3 * tall))
            image.load()
            upright: Image.Image = image
            with suppress(Exception):  # broken EXIF data are ignored
                upright = ImageOps.exif_transpose(image)
            flat = flatten(upright, kind)
            where = placed((flat.height, flat.width), (tall, wide), crop, key)
            (top, left), (high, across) = where.corner, where.part
            box = (left, top, left + across, top + high)
            if where.part == where.size:
                part = flat.crop(box)
            else:
                part = flat.resize(where.size[::-1], Image.Resampling.BICUBIC, box=box)
            whole = Image.new("RGB", (wide, tall))
            whole.paste(part.convert("RGB"), where.at[::-1])
            pixels = np.moveaxis(np.asarray(whole), -1, 0)
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on a broken file
        raise Unreadable(_reason(error, file)) from error
    return Picture(np.ascontiguousarray(pixels), width, height, mode, kind)


def _reason(error: Exception, file: BinaryIO) -> str:
    if isinstance(error, UnidentifiedImageError):
        file.seek(0)
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in HEIF:
            return "is HEIC or AVIF, whatever its name, which is not read; convert it to PNG or JPEG"
        return "holds no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than the {MAX_PIXELS // 10**6} million pixels allowed"
    return f"cannot be decoded: {one_line(error, 120) or type(error).__name__}"


def is_sheet(image: Image.Image) -> bool:
    """Return whether ddim marked an opened PNG as a grid, an overview or a figure, not one image of a data set."""
    return image.info.get(KIND) == SHEET


def flatten(image: Image.Image, kind: str) -> Image.Image:
    """Return an image, read from a file of the format `kind`, in mode L or RGB.

    - 16 bits of grey are scaled, 65535 to 255.
    - Of 32 bits, integer or float, white is 1 (float only), 255 or 65535: the first that no pixel exceeds. Images
      with values below 0 or above 65535 are stretched from their minimum to their maximum. NaN becomes black.
    - Transparent images are composited on white.
    - Palettes, CMYK, YCbCr, HSV, LAB and 1 bit are converted. Colour profiles are not applied.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        whites: tuple[int, ...] = (255, 65535) if image.mode == "I" else (1, 255, 65535)
        if image.mode == "I" and kind in ("PNG", "PPM"):  # 16 bits; PPM is any PNM
            whites = (65535,)
        return Image.fromarray(_scaled(np.asarray(image), whites))
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
