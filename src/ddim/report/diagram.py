"""The network, drawn stage by stage: down on the left, the bottom of the U, up on the right."""

from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ddim.denoiser import Denoiser
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, WIDTH, Sheet
from ddim.report.stages import Stage, stages

BOX, HIGH, PITCH, INDENT = 510, 150, 205, 95  # pixels: a box's width and height, from row to row, inwards by row
PILL = 90  # the height of what goes in and out
TOP = 190  # centre of the first row
COLOURS = {"down": BLUE, "middle": PURPLE, "up": GREEN}


def network(record: Record) -> Figure:
    """The U of a U-Net; of any other network its parts, side by side."""
    found = stages(record.model)
    name, total = type(record.model.network).__name__, sum(stage.parameters for stage in found)
    drawing = _u(found, record.model) if _is_u(found) else _parts(found)
    drawing.sheet.text(WIDTH / 2, 55, f"{name}: {total:,} parameters", fontsize=14, weight="bold")
    return drawing.sheet.figure


def _is_u(found: list[Stage]) -> bool:
    names = [stage.name for stage in found]
    bottoms = names.count("down") - names.count("up") + names.count("middle")
    return set(names) <= {"condition", "stem", "down", "middle", "up", "head"} and "up" in names and bottoms == 1


def _u(found: list[Stage], model: Denoiser) -> "Drawing":
    named: dict[str, list[Stage]] = {}
    for stage in found:
        named.setdefault(stage.name, []).append(stage)
    left, right = named["down"], named["up"]
    bottom = named["middle"][0] if "middle" in named else left[-1]
    left = left[: len(right)]
    deep = len(right)
    inwards = min(INDENT, 380 / deep)
    drawing = Drawing(TOP + (deep + 2) * PITCH + HIGH // 2 + 40, found)

    def down(depth: int) -> tuple[float, float]:  # the places: the ends of the U are one row above its first stage
        return 40 + BOX / 2 + inwards * max(depth, 0), TOP + (depth + 2) * PITCH

    def up(depth: int) -> tuple[float, float]:
        return WIDTH - down(depth)[0], down(depth)[1]

    output = {"eps": r"$\epsilon_\theta(x_t, t)$", "x0": r"$x_{0,\theta}(x_t, t)$", "v": r"$v_\theta(x_t, t)$"}
    going = [drawing.pill(down(-2), "$x_t$")]
    going += [drawing.box(down(-1), stage) for stage in named.get("stem", [])]
    lefts = [drawing.box(down(depth), stage) for depth, stage in enumerate(left)]
    middle = drawing.box((WIDTH / 2, TOP + (deep + 2) * PITCH), bottom)
    rights = [drawing.box(up(depth), stage) for depth, stage in zip(reversed(range(deep)), right, strict=True)]
    leaving = [drawing.box(up(-1), stage) for stage in named.get("head", [])]
    leaving.append(drawing.pill(up(-2), output[model.predicts]))

    descending, climbing = [*going, *lefts], [*rights, *leaving]
    for first, second in pairwise(descending):
        drawing.arrow((second[0], first[1] + HIGH / 2), (second[0], second[1] - HIGH / 2))
    drawing.arrow((lefts[-1][0], lefts[-1][1] + HIGH / 2), (middle[0] - BOX / 2, middle[1]), bend=0.25)
    drawing.arrow((middle[0] + BOX / 2, middle[1]), (rights[0][0], rights[0][1] + HIGH / 2), bend=0.25)
    for first, second in pairwise(climbing):
        drawing.arrow((second[0], first[1] - HIGH / 2), (second[0], second[1] + HIGH / 2))
    for a, b in zip(lefts, reversed(rights), strict=True):
        drawing.arrow((a[0] + BOX / 2, a[1]), (b[0] - BOX / 2, b[1]), dashed=True)
    drawing.sheet.text(WIDTH / 2, lefts[0][1] - 28, "skip connection", color=FAINT)
    told = "time $t$, as sines and cosines" if model.classes is None else "time $t$ and class"
    for stage in named.get("condition", []):
        drawing.box((WIDTH / 2, TOP + PITCH / 2), stage, told, "added in every block")
    return drawing


def _parts(found: list[Stage]) -> "Drawing":
    columns = 3
    rows = -(-len(found) // columns)
    drawing = Drawing(TOP + (rows - 1) * PITCH + HIGH // 2 + 40, found)
    for i, stage in enumerate(found):
        row, column = divmod(i, columns)
        drawing.box((WIDTH / 2 + (column - (columns - 1) / 2) * (BOX + 20), TOP + row * PITCH), stage)
    return drawing


class Drawing:
    """Boxes and arrows on a sheet, in pixels from the top left.

    Args:
        height: of the sheet.
        found: all the stages; the largest image among them sets the scale of the little squares.
    """

    def __init__(self, height: int, found: list[Stage]) -> None:
        self.sheet = Sheet(height)
        self.axes: Any = self.sheet.axes(0, 0, WIDTH, height)
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        self.largest = max((max(stage.shape[1:]) for stage in found if stage.shape), default=1)

    def box(self, at: tuple[float, float], stage: Stage, *words: str) -> tuple[float, float]:
        """A stage, with a square as large as its images; returns its centre."""
        colour = COLOURS.get(stage.name, INK if stage.name in ("stem", "head") else ORANGE)
        self._round(at, 560 if words else BOX, HIGH, colour)
        title = stage.name if stage.index is None else f"{stage.name} {stage.index + 1}"
        if stage.shape:
            title += f"   {stage.shape[1]} × {stage.shape[2]}"
        lines = [*words] or [title]
        if stage.shape:
            channels, height, width = stage.shape
            side_x, side_y = (100 * n / self.largest for n in (width, height))
            corner = (at[0] - BOX / 2 + 65 - side_x / 2, at[1] - side_y / 2)
            self.axes.add_patch(Rectangle(corner, side_x, side_y, fc=colour, ec="none", alpha=0.55))
            lines.append(f"{channels} channel{'s' * (channels != 1)}")
        lines.append(f"{stage.parameters:,} parameters")
        x = at[0] - BOX / 2 + (130 if stage.shape else BOX / 2)
        align = "left" if stage.shape else "center"
        for i, line in enumerate(lines):
            y = at[1] + (i - (len(lines) - 1) / 2) * 42
            self.sheet.text(
                x, y, line, ha=align, weight="bold" if i == 0 else "normal", color=colour if i == 0 else INK
            )
        return at

    def pill(self, at: tuple[float, float], words: str) -> tuple[float, float]:
        """What goes in or comes out."""
        x, y = at[0], at[1] + (HIGH - PILL) / 2  # it stands on the line on which a box would
        self._round((x, y), 300, PILL, FAINT, rounding=PILL / 2)
        self.sheet.text(x, y, words, fontsize=14)
        return at

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], dashed: bool = False, bend: float = 0
    ) -> None:
        style: dict[str, Any] = (
            {"ls": (0, (3, 2)), "color": FAINT, "lw": 1.3} if dashed else {"color": INK, "lw": 1.6}
        )
        curve = f"arc3,rad={bend}"
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=13,
                connectionstyle=curve,
                shrinkA=2,
                shrinkB=2,
                **style,
            )
        )

    def _round(
        self, at: tuple[float, float], width: float, height: float, colour: str, rounding: float = 16
    ) -> None:
        corner = (at[0] - width / 2, at[1] - height / 2)
        shape = f"round,pad=0,rounding_size={rounding}"
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc="none", ec=colour, lw=1.5))
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc=colour, ec="none", alpha=0.07))
