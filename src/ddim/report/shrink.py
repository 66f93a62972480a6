"""Pictures made small enough to be committed: narrower, and with few colours."""

import io

from PIL import Image

TRIES = (
    (1000, 128),
    (1000, 64),
    (1000, 32),
    (1000, 16),
    (800, 16),
    (660, 16),
    (500, 12),
    (400, 8),
)  # pixels across, colours


def fitting(pictures: dict[str, bytes], most: int) -> dict[str, bytes]:
    """The pictures as PNGs that together take about `most` bytes at most: what a small one leaves, a large one has.

    Args:
        pictures: PNGs by name.
        most: bytes of them all.
    """
    best = {name: shrunk(png, *TRIES[0]) for name, png in pictures.items()}
    found: dict[str, bytes] = {}
    for name in sorted(best, key=lambda name: len(best[name])):
        share = (most - sum(map(len, found.values()))) // (len(best) - len(found))
        png, others = best[name], iter(TRIES[1:])
        while len(png) > share and (one := next(others, None)):
            png = shrunk(pictures[name], *one)
        found[name] = png
    return found


def shrunk(png: bytes, width: int, colours: int) -> bytes:
    """A PNG at most so wide, with a palette of so many colours."""
    with Image.open(io.BytesIO(png)) as file:
        picture = file.convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.BOX)  # of two pixels one: squares stay crisp
    small = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    content = io.BytesIO()
    small.save(content, "PNG", optimize=True)
    return content.getvalue()
