"""What the page shows: images as figures with their text, and lines in a chart, in colours of the page."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddim.pictures import grid, visible

Point = tuple[float, float]
WIDTH, HEIGHT = 640, 260  # of a chart, in its own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 54, 24, 12, 40
COLOURS = ("#2f6fde", "#d9660f", "#1b8a5a", "#7c4dbd")  # readable on white and on black

STYLE = """
.ddim figure { margin: 0 0 .6rem; }
.ddim figcaption, .ddim p, .ddim li { color: var(--body-text-color); margin: .2rem 0; font-size: .9rem; }
.ddim ul { padding: 0; list-style: none; }
.ddim img { image-rendering: pixelated; width: 100%; height: auto; display: block; }
.ddim svg { width: 100%; height: auto; color: var(--body-text-color); }
.ddim svg text { font-size: 13px; fill: currentColor; }
.ddim .frames { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: .8rem; }
.ddim [hidden] { display: none; }
"""


def picture(images: Tensor, columns: int | None = None) -> str:
    """Return images, (N, C, H, W) uint8, in a grid of one pixel for each of theirs, as the address of a PNG."""
    content = io.BytesIO()
    grid(visible(images), columns, scale=1).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def figure(images: Tensor, caption: str, columns: int | None = None) -> str:
    """Return images with a caption, which is also the text for who does not see them."""
    text = html.escape(caption)
    return f'<figure><img src="{picture(images, columns)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def paragraph(text: str) -> str:
    """Return text as a paragraph; what is HTML in it is shown as it is."""
    return f"<p>{html.escape(text)}</p>"


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / ((high - low) or 1.0)

    @property
    def ticks(self) -> list[float]:
        """About five round values."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) > 2:
                return inside[:: max(1, len(inside) // 5)]
        raw = ((self.high - self.low) or 1.0) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def chart(
    lines: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    marks: Sequence[Point] = (),
    frames: Sequence[Point | None] = (),
    log: bool = False,
) -> str:
    """Return lines as an SVG, each with its name.

    Args:
        lines: name -> its points, finite; at least one point in all.
        x_label, y_label: what the axes show.
        marks: dots on the lines.
        frames: for each frame the dot that has a ring while the frame is shown, or None.
        log: whether the y axis is logarithmic; its values are then above 0.
    """
    points = [point for line in lines.values() for point in line]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, log)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{y_label} against {x_label}")}">',
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{html.escape(x_label)}</text>',
        f'<text x="13" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 13 {HEIGHT / 2})">'
        f"{html.escape(y_label)}</text>",
    ]
    for value in x.ticks:
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{value:g}</text>')
    for value in y.ticks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="currentColor" '
            f'opacity=".15"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for i, (name, line) in enumerate(lines.items()):
        colour, path = COLOURS[i % len(COLOURS)], " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(lines) > 1:
            place = f'x="{WIDTH - RIGHT}" y="{TOP + 14 + 17 * i}"'
            parts.append(f'<text {place} text-anchor="end" style="fill:{colour}">{html.escape(name)}</text>')
    for a, b in marks:
        parts.append(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{COLOURS[1]}"/>')
    for i, point in enumerate(frames):
        if point is not None:
            place = f'cx="{x(point[0]):.1f}" cy="{y(point[1]):.1f}" r="7"'
            ring = f'fill="none" stroke="{COLOURS[1]}" stroke-width="3"'
            parts.append(f"<circle {place} {ring}{of_frame(i, len(frames))}/>")
    return "".join([*parts, "</svg>"])


def of_frame(i: int, count: int) -> str:
    """Return the attributes of an element that is shown with frame i of `count` only; `SHOW_FRAME` turns to another."""
    return f' data-frame="{i}"' + (" hidden" if i < count - 1 else "")


SHOW_FRAME = """(i) => {
    for (const one of document.querySelectorAll("#%s [data-frame]"))
        one.toggleAttribute("hidden", one.dataset.frame != i);
}"""
"""JavaScript: show frame i of the element with an id."""
