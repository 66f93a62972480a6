"""Images as picture files, pixel by pixel, with marks that say where a file comes from."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ddim import __version__
from ddim.errors import UserError, number
from ddim.files import user_path, write_bytes
from ddim.text import counted

SOFTWARE, KIND, SETTINGS = "Software", "ddim:picture", "ddim:settings"  # keywords of a PNG's text chunks
SHEET = "sheet"  # the `KIND` of a picture that is not one image of a data set: a grid or a figure
MOVING = (".gif", ".webp", ".mp4")  # names of pictures that `write_moving` writes
FRAME = 80  # milliseconds for which each image of a moving picture is shown
DESCRIPTION = 0x010E  # ImageDescription, the Exif tag that keeps the settings in a WebP file
LARGEST = 2**27  # pixels of a grid, 11,585 x 11,585; image viewers refuse pictures that are much larger


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1], of any shape, in the nearest of 256 grey levels; values outside are clamped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def grid(images: Tensor, columns: int | None = None, scale: int | None = None, gap: int = 1) -> Image.Image:
    """Return images side by side, row by row, on a grey ground.

    Args:
        images: (N, C, H, W) with one or three channels, uint8 or floating-point numbers in [-1, 1].
        columns: images in a row; None makes the grid as square as possible.
        scale: side of a pixel in the picture; None makes each image about 64 wide.
        gap: pixels of the images between two of them.

    Raises:
        UserError: images of another shape, dtype or range, numbers out of range, or a picture above `LARGEST`.
    """
    images = _pixels(images)
    count, channels, height, width = images.shape
    columns, scale, size = layout(count, (height, width), columns, scale, gap)
    sheet = torch.full((channels, *size), 96, dtype=torch.uint8)
    for i, image in enumerate(images.cpu()):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        sheet[:, top : top + height, left : left + width] = image
    picture = _picture(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def layout(
    count: int, sides: tuple[int, int], columns: int | None = None, scale: int | None = None, gap: int = 1
) -> tuple[int, int, tuple[int, int]]:
    """Return the columns and the scale of a `grid` of `count` images of (H, W), and its (H, W) before scaling.

    Raises `UserError` for numbers out of range, and for a picture above `LARGEST`.
    """
    (height, width), columns = sides, columns if columns is not None else math.isqrt(max(count - 1, 0)) + 1
    scale = scale if scale is not None else max(1, 64 // width)
    columns, scale = number("The columns of a grid", columns, int, 1), number("The scale of a grid", scale, int, 1)
    gap = number("The gap of a grid", gap, int, 0)
    size = -(-count // columns) * (height + gap) + gap, columns * (width + gap) + gap
    if math.prod(size) * scale**2 > LARGEST:
        raise UserError(
            f"A grid of {count:,} images of {height} x {width} at scale {scale} has {size[0] * scale:,} x "
            f"{size[1] * scale:,} pixels, and {LARGEST:,} are the most; draw fewer, or write one file for each image."
        )
    return columns, scale, size


def show(images: Tensor, columns: int | None = None, scale: int | None = None, gap: int = 1) -> "Sheet":
    """Return `grid(images, ...)` as an object that a notebook shows and that writes itself to a file.

    Arguments and errors are those of `grid`; one image (C, H, W) is also taken.
    """
    images = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
    return Sheet(grid(images, columns, scale, gap), len(images))


class Sheet:
    """A picture of several images. As the last line of a notebook's cell, it is shown.

    Attributes:
        picture: as Pillow has it.
        count: the number of images in it.
    """

    def __init__(self, picture: Image.Image, count: int) -> None:
        self.picture, self.count = picture, count

    def save(self, path: str | Path) -> None:
        """Write the picture to a PNG file, marked as a sheet. Raises `UserError` for another suffix."""
        path = user_path(path)
        if path.suffix.lower() != ".png":
            raise UserError(f"A sheet is written as PNG; give a name that ends in .png, not {str(path)!r}.")
        write_bytes(path, _png(self.picture, sheet_marks()))

    def __repr__(self) -> str:
        many = counted(self.count, "image")
        return f"<{many} in {self.picture.width} × {self.picture.height} pixels; .save(path) writes a PNG>"

    def _repr_png_(self) -> bytes:
        """Return the picture for IPython."""
        return _png(self.picture, sheet_marks())


def visible(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) with the channels that a picture shows: the first three, or the first of fewer."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1]


def write_grid(
    images: Tensor, path: str | Path, columns: int | None = None, settings: Mapping[str, Any] | None = None
) -> None:
    """Write `grid(images, columns)` to a PNG file, whole or not at all, marked as a sheet.

    `settings` are kept in the file. Raises `UserError` as `grid` does, or if the file cannot be written.
    """
    write_bytes(user_path(path), _png(grid(images, columns), sheet_marks(settings)))


def write_each(
    images: Tensor, folder: str | Path, first: int = 0, settings: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Write each image to a PNG file of its own, 000000.png and so on, counted from `first`.

    `settings`, one for each image, are kept in the files. Raises `UserError` for images of another shape, dtype or
    range, see `grid`, or if a file cannot be written; the files before it stay.
    """
    folder = user_path(folder)
    for i, png in enumerate(pngs(images, settings), start=first):
        write_bytes(folder / f"{i:06d}.png", png)


def write_moving(
    images: Tensor, path: str | Path, settings: Mapping[str, Any] | None = None, back: bool = True
) -> None:
    """Write images, (N, C, H, W) as for `grid`, as a picture that moves through them, and with `back` returns.

    `settings` are kept in the file: in a GIF or an MP4 as its comment, in a WebP file as the Exif tag
    ImageDescription. WebP is lossless, GIF has 256 colours in each image, and MP4 (H.264) is lossy.

    Args:
        path: ends in one of `MOVING`.

    Raises:
        UserError: as `grid` does, another name, a file that cannot be written, or .mp4 without `ddim[video]`.
    """
    check_moving(path)
    there = [grid(image[None], gap=0) for image in images]
    frames, text = [*there, *(there[-2:0:-1] if back else ())], json.dumps({} if settings is None else settings)
    kind, content = Path(path).suffix.lower(), io.BytesIO()
    if kind == ".mp4":
        write_bytes(path, _mp4(frames, text))
        return
    exif = Image.Exif()
    exif[DESCRIPTION] = text
    marks: dict[str, Any] = {"comment": text.encode()} if kind == ".gif" else {"exif": exif, "lossless": True}
    frames[0].save(content, kind[1:], save_all=True, append_images=frames[1:], duration=FRAME, loop=0, **marks)
    write_bytes(path, content.getvalue())


def check_moving(path: str | Path) -> None:
    """Raise `UserError` unless `write_moving` can write a picture of that name."""
    if Path(path).suffix.lower() not in MOVING:
        raise UserError(
            f"A moving picture is a {', '.join(MOVING[:-1])} or {MOVING[-1]} file, and a grid a .png file; got {path}."
        )
    if Path(path).suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise UserError('A film needs the package imageio-ffmpeg; run `pip install "ddim[video]"`.') from error


def _mp4(frames: Sequence[Image.Image], comment: str) -> bytes:
    """Return a film, with a comment in its metadata."""
    import imageio_ffmpeg

    with TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        width, height = (side + side % 2 for side in frames[0].size)  # H.264 takes even sides only
        film = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=1000 / FRAME,
            quality=8,
            macro_block_size=2,
            output_params=["-metadata", f"comment={comment}"],
        )
        film.send(None)
        for frame in frames:
            film.send(frame.convert("RGB").crop((0, 0, width, height)).tobytes())
        film.close()
        return path.read_bytes()


def pngs(images: Tensor, settings: Sequence[Mapping[str, Any]] | None = None) -> Iterator[bytes]:
    """Yield the content of each file that `write_each` writes; arguments and errors are the same."""
    for i, image in enumerate(_pixels(images).cpu()):
        marks = {SOFTWARE: f"ddim {__version__}"}
        yield _png(_picture(image), marks if settings is None else {**marks, SETTINGS: json.dumps(settings[i])})


def sheet_marks(settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the text chunks of a PNG that is not one image of a data set, keyword -> text."""
    marks = {SOFTWARE: f"ddim {__version__}", KIND: SHEET}
    return marks if settings is None else {**marks, SETTINGS: json.dumps(settings)}


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Return the settings in a PNG, GIF or WebP file that this module wrote; None if it holds none."""
    try:
        with Image.open(path) as file:
            if file.format == "WEBP":
                text = file.getexif().get(DESCRIPTION)
            else:
                text = file.info.get("comment" if file.format == "GIF" else SETTINGS)
            settings = json.loads(text or "null")
    except (OSError, ValueError, TypeError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return None
    return settings if isinstance(settings, dict) else None


def _pixels(images: Tensor) -> Tensor:
    """Return images for a file as (N, C, H, W) uint8. Raises `UserError` for another shape, dtype or range."""
    if not isinstance(images, Tensor) or images.ndim != 4 or 0 in images.shape or images.shape[1] not in (1, 3):
        given = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise UserError(
            f"Pictures are made of a tensor of shape (N, C, H, W) with at least one image and 1 or 3 channels; got "
            f"{given}."
        )
    if images.dtype == torch.uint8:
        return images
    low, high = map(float, images.aminmax()) if images.is_floating_point() else (math.nan, math.nan)
    if not (low >= -1 and high <= 1):
        values = f" with values from {low:.4g} to {high:.4g}" if images.is_floating_point() else ""
        raise UserError(
            "Pictures are made of uint8, or of floating-point numbers in [-1, 1]; got "
            f"{str(images.dtype).removeprefix('torch.')}{values}; scale or clamp them first."
        )
    return to_uint8(images.float())


def png_info(marks: Mapping[str, str]) -> PngInfo:
    """Return text chunks, keyword -> text, in the form that Pillow writes."""
    info = PngInfo()
    for keyword, text in marks.items():
        info.add_text(keyword, text)
    return info


def _png(picture: Image.Image, marks: Mapping[str, str]) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", pnginfo=png_info(marks))
    return content.getvalue()


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())
