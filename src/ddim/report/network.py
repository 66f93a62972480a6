"""The section on the network: its stages, what each one outputs, and where the parameters are."""

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor, nn

from ddim.denoiser import Denoiser
from ddim.plots.canvas import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, WIDTH, Canvas
from ddim.report.training import TrainingSection
from ddim.run_folder import RunFolder
from ddim.text import counted

BOX, HEIGHT, PITCH, INDENT = 510, 150, 205, 95  # pixels: a box's size, from row to row, inwards from row to row
PILL = 90  # height of the input and of the output
TOP = 190  # centre of the first row
Point = tuple[float, float]

COLOURS = {"down": BLUE, "middle": PURPLE, "up": GREEN}


@dataclass(frozen=True)
class Stage:
    """A part of a network."""

    name: str  # of the attribute that holds it, e.g. "down"
    index: int | None  # its place in a list of such parts
    shape: tuple[int, ...] | None  # (C, H, W) of one image's activation; None if not called or if it outputs no image
    parameters: int  # numbers in its weights; those shared with an earlier stage count there


def stages(model: Denoiser) -> list[Stage]:
    """Return the parts of a model's network in the order in which it holds them, measured with one call.

    Lists of modules, such as `down` and `up`, are opened; parameters that no part owns come last, as "other".
    """
    network = model.network
    parts: list[tuple[str, int | None, nn.Module]] = []
    for name, child in network.named_children():
        pieces = enumerate(child) if isinstance(child, nn.ModuleList) else [(None, child)]
        parts += [(name, index, module) for index, module in pieces]
    widest = [_widest(module) for _, _, module in parts]
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            shapes[module] = tuple(output.shape[1:])

    with ExitStack() as hooks, torch.no_grad():
        for module in widest:
            hooks.callback(module.register_forward_hook(note).remove)
        x = torch.zeros(1, *model.shape, device=model.device, dtype=model.dtype)
        model(x, model.schedule(model.schedule.times[1]), torch.zeros(1, dtype=torch.long))

    seen: set[Tensor] = set()
    parted = [
        Stage(name, index, shapes.get(inner), _count(module, seen))
        for (name, index, module), inner in zip(parts, widest, strict=True)
    ]
    rest = _count(network, seen)
    return [*parted, Stage("other", None, None, rest)] if rest else parted


def _widest(stage: nn.Module) -> nn.Module:
    """Return the largest module that a stage calls; the others may only change the size of the image."""
    called: list[nn.Module] = []
    for child in stage.children():
        called += child if isinstance(child, nn.ModuleList) else [child]
    return max(called, key=lambda module: sum(p.numel() for p in module.parameters()), default=stage)


def _count(module: nn.Module, seen: set[Tensor]) -> int:
    fresh = [p for p in module.parameters() if p not in seen]
    seen.update(fresh)
    return sum(p.numel() for p in fresh)


def network(run: RunFolder) -> Figure:
    """Return the drawing: the U of a U-Net; the parts of any other network, side by side."""
    parts = stages(run.model)
    name, total = type(run.model.network).__name__, sum(stage.parameters for stage in parts)
    drawing = _u(parts, run.model) if _is_u(parts) else _side_by_side(parts)
    drawing.canvas.text(WIDTH / 2, 55, f"{name}: {counted(total, 'parameter')}", fontsize=14, weight="bold")
    return drawing.canvas.figure


def _is_u(parts: list[Stage]) -> bool:
    names = [stage.name for stage in parts]
    bottoms = names.count("down") - names.count("up") + names.count("middle")
    return set(names) <= {"condition", "stem", "down", "middle", "up", "head"} and "up" in names and bottoms == 1


def _u(parts: list[Stage], model: Denoiser) -> "Drawing":
    named: dict[str, list[Stage]] = {}
    for stage in parts:
        named.setdefault(stage.name, []).append(stage)
    left, right = named["down"], named["up"]
    bottom = named["middle"][0] if "middle" in named else left[-1]
    left = left[: len(right)]
    deep = len(right)
    inwards = min(INDENT, 380 / deep)
    drawing = Drawing(TOP + (deep + 2) * PITCH + HEIGHT // 2 + 40, parts)

    def down(depth: int) -> Point:  # centres; the stem is one row above the first stage
        return 40 + BOX / 2 + inwards * max(depth, 0), TOP + (depth + 2) * PITCH

    def up(depth: int) -> Point:
        return WIDTH - down(depth)[0], down(depth)[1]

    output = {"eps": r"$\epsilon_\theta(x_t, t)$", "x0": r"$x_{0,\theta}(x_t, t)$"}
    output |= {"v": r"$v_\theta(x_t, t)$", "flow": r"$u_\theta(x_t, t)$"}
    inputs = [drawing.pill(down(-2), "$x_t$")]
    inputs += [drawing.box(down(-1), stage) for stage in named.get("stem", [])]
    lefts = [drawing.box(down(depth), stage) for depth, stage in enumerate(left)]
    middle = drawing.box((WIDTH / 2, TOP + (deep + 2) * PITCH), bottom)
    rights = [drawing.box(up(depth), stage) for depth, stage in zip(reversed(range(deep)), right, strict=True)]
    outputs = [drawing.box(up(-1), stage) for stage in named.get("head", [])]
    outputs.append(drawing.pill(up(-2), output[model.predicts]))

    descending, climbing = [*inputs, *lefts], [*rights, *outputs]
    for first, second in pairwise(descending):
        drawing.arrow((second[0], first[1] + HEIGHT / 2), (second[0], second[1] - HEIGHT / 2))
    drawing.arrow((lefts[-1][0], lefts[-1][1] + HEIGHT / 2), (middle[0] - BOX / 2, middle[1]), bend=0.25)
    drawing.arrow((middle[0] + BOX / 2, middle[1]), (rights[0][0], rights[0][1] + HEIGHT / 2), bend=0.25)
    for first, second in pairwise(climbing):
        drawing.arrow((second[0], first[1] - HEIGHT / 2), (second[0], second[1] + HEIGHT / 2))
    for a, b in zip(lefts, reversed(rights), strict=True):
        drawing.arrow((a[0] + BOX / 2, a[1]), (b[0] - BOX / 2, b[1]), dashed=True)
    drawing.canvas.text(WIDTH / 2, lefts[0][1] - 28, "skip connection", color=FAINT)
    label = "time $t$, as sines and cosines" if model.classes is None else "time $t$ and class"
    for stage in named.get("condition", []):
        drawing.box((WIDTH / 2, TOP + PITCH / 2), stage, label, "added in every block")
    return drawing


def _side_by_side(parts: list[Stage]) -> "Drawing":
    drawing = Drawing(TOP + (len(parts) - 1) // 3 * PITCH + HEIGHT // 2 + 40, parts)
    for i, stage in enumerate(parts):
        row, column = divmod(i, 3)
        drawing.box((WIDTH / 2 + (column - 1) * (BOX + 20), TOP + row * PITCH), stage)
    return drawing


class Drawing:
    """Boxes and arrows on a canvas; the largest image among the stages sets the scale of the squares."""

    def __init__(self, height: int, parts: list[Stage]) -> None:
        self.canvas = Canvas(height)
        self.axes: Any = self.canvas.axes(0, 0, WIDTH, height)
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        self.largest = max((max(stage.shape[1:]) for stage in parts if stage.shape), default=1)

    def box(self, at: Point, stage: Stage, *lines: str) -> Point:
        """Draw a stage with a square of the size of its images; return its centre."""
        colour = COLOURS.get(stage.name, INK if stage.name in ("stem", "head") else ORANGE)
        self._round(at, 560 if lines else BOX, HEIGHT, colour)
        title = stage.name if stage.index is None else f"{stage.name} {stage.index + 1}"
        if stage.shape:
            title += f"   {stage.shape[1]} × {stage.shape[2]}"
        texts = [*lines] or [title]
        if stage.shape:
            channels, height, width = stage.shape
            side_x, side_y = (100 * n / self.largest for n in (width, height))
            corner = (at[0] - BOX / 2 + 65 - side_x / 2, at[1] - side_y / 2)
            self.axes.add_patch(Rectangle(corner, side_x, side_y, fc=colour, ec="none", alpha=0.55))
            texts.append(counted(channels, "channel"))
        texts.append(counted(stage.parameters, "parameter"))
        x = at[0] - BOX / 2 + (130 if stage.shape else BOX / 2)
        align = "left" if stage.shape else "center"
        for i, text in enumerate(texts):
            y = at[1] + (i - (len(texts) - 1) / 2) * 42
            weight, color = ("bold", colour) if i == 0 else ("normal", INK)
            self.canvas.text(x, y, text, ha=align, weight=weight, color=color)
        return at

    def pill(self, at: Point, text: str) -> Point:
        """Draw the input or the output; return its centre."""
        x, y = at[0], at[1] + (HEIGHT - PILL) / 2  # aligned with the boxes
        self._round((x, y), 300, PILL, FAINT, rounding=PILL / 2)
        self.canvas.text(x, y, text, fontsize=14)
        return at

    def arrow(self, start: Point, end: Point, dashed: bool = False, bend: float = 0) -> None:
        """Draw an arrow; skip connections are dashed."""
        style: dict[str, Any] = {"color": INK, "lw": 1.6, "mutation_scale": 13, "shrinkA": 2, "shrinkB": 2}
        style |= {"ls": (0, (3, 2)), "color": FAINT, "lw": 1.3} if dashed else {}
        arrow = FancyArrowPatch(start, end, arrowstyle="-|>", connectionstyle=f"arc3,rad={bend}", **style)
        self.axes.add_patch(arrow)

    def _round(self, at: Point, width: float, height: float, colour: str, rounding: float = 16) -> None:
        corner = (at[0] - width / 2, at[1] - height / 2)
        shape = f"round,pad=0,rounding_size={rounding}"
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc="none", ec=colour, lw=1.5))
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc=colour, ec="none", alpha=0.07))


U = (
    "On the way down the image gets smaller and has more channels; on the way up it gets larger again, and skip "
    "connections add the fine detail."
)


SECTION = TrainingSection(
    "network",
    "The network",
    "the paper’s Figure 5",
    "It gets <i>x</i><sub>t</sub> and <i>t</i> and separates the noise from the image. The squares show the size "
    "of the image in each part.",
    network,
    note=lambda run: U if hasattr(run.model.network, "down") and hasattr(run.model.network, "up") else "",
)
