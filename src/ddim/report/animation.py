"""Noise becoming images, as an animated GIF: eta = 0 above, eta = 1 below, from the same start."""

import io
import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, INK, ORANGE, line, mosaic

FRAME, START, END = 80, 600, 3000  # milliseconds: a frame, the first and the last
LARGEST = 1_500_000  # bytes
TRIES = ((6, 1, 128), (6, 1, 64), (4, 1, 64), (4, 2, 64), (4, 4, 32))  # images, one frame in so many, colours
ACROSS = 620  # pixels of all the images in a row, about
LABEL, HEAD = 150, 44  # pixels left of the images, and above them


def denoising(record: Record) -> bytes | None:
    """The animation: x_t and the predicted x0 of each image, with what fits into 1.5 MB."""
    tensors = record.strips
    if tensors is None:
        return None
    names = ("eta0.x", "eta0.x0", "eta1.x", "eta1.x0")
    stacked = torch.stack([tensors[name] for name in names], dim=1)  # (F, 4, N, C, H, W)
    encoded = b""
    for images, fewer, colours in TRIES:
        some = torch.linspace(0, len(stacked) - 1, math.ceil(len(stacked) / fewer)).round().long()
        times = tensors["times"][some].tolist()
        frames = [_frame(rows, t) for rows, t in zip(stacked[some, :, :images], times, strict=True)]
        encoded = _encode(frames, colours)
        if len(encoded) <= LARGEST:
            break
    return encoded


def _frame(rows: torch.Tensor, t: float) -> Image.Image:
    """One frame from (4, N, C, H, W) images."""
    count, size = rows.shape[1], rows.shape[-1]
    grids = [mosaic(rows[i : i + 2].flatten(0, 1), count) for i in (0, 2)]
    high, wide = grids[0].shape[:2]
    scale = max(1, ACROSS // wide)
    canvas = Image.new("RGB", (LABEL + wide * scale + 20, 2 * (high * scale + HEAD) + 20), "#ffffff")
    pen = ImageDraw.Draw(canvas)
    pitch = (rows.shape[-2] + line(size)) * scale
    words = (("η = 0", "DDIM", BLUE), ("η = 1", "DDPM", ORANGE))
    for block, (grid, (eta, name, colour)) in enumerate(zip(grids, words, strict=True)):
        top = HEAD + block * (high * scale + HEAD)
        canvas.paste(Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)), (LABEL, top))
        pen.text((LABEL, top - 10), f"{name}, {eta}", font=_font(18, bold=True), fill=colour, anchor="ls")
        for i, label in enumerate(("image xₜ", "predicted x₀")):
            pen.text((LABEL - 12, top + (i + 0.5) * pitch), label, font=_font(17), fill=INK, anchor="rm")
    pen.text((LABEL + wide * scale, HEAD - 10), f"t = {t:.0f}", font=_font(18), fill=FAINT, anchor="rs")
    return canvas


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)


def _encode(frames: list[Image.Image], colours: int) -> bytes:
    """A GIF with one palette for all frames, made from three of them; the words keep their colours."""
    some = [np.asarray(frames[i]) for i in (0, len(frames) // 2, -1)]
    exact = [c for name in ("#ffffff", BLUE, ORANGE, INK, FAINT) for c in ImageColor.getrgb(name)]
    mixed = Image.fromarray(np.concatenate(some)).quantize(colours - len(exact) // 3).getpalette() or []
    rest = [c for i in range(0, len(mixed), 3) if min(mixed[i : i + 3]) < 245 for c in mixed[i : i + 3]]
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + rest)  # one white, not several that are nearly so
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    times = [START, *[FRAME] * (len(frames) - 2), END][-len(frames) :]
    drawn[0].save(file, "GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)
    return file.getvalue()
