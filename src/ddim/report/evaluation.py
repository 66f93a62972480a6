"""The figure of the evaluation: each figure of the samples with its interval, beside what real images come to."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ddim.report import dots, measured
from ddim.report.measured import Measured
from ddim.report.names import FIGURES
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, WIDTH, Sheet, literal

SHARES = (
    "precision",
    "recall",
    "density",
    "coverage",
    "accuracy",
    "agreement",
)  # from 0 to about 1, and the more the better
TOP, LEFT, RIGHT, HIGH = 130, 500, 530, 80  # pixels; the words stand left and right of the axes
PITCH, CLOSE = 190, 115  # from strip to strip, with and without numbers at the axis


def evaluation(record: Record) -> Figure | None:
    """A strip for each figure; those that are shares come last and have the same axis."""
    facts = record.results.get("evaluation")
    if facts is None or not (figures := measured.figures(facts)):
        return None
    shares = [name for name in SHARES if name in figures]
    order = [name for name in figures if name not in SHARES] + shares
    common = _ends([number for name in shares for number in _numbers(*figures[name])])
    pitches = [CLOSE if name in shares[:-1] else PITCH for name in order]
    tops = [TOP + sum(pitches[:i]) for i in range(len(order))]
    sheet = Sheet(tops[-1] + PITCH)
    for name, top in zip(order, tops, strict=True):
        one, real = figures[name]
        axes = sheet.axes(LEFT, top, WIDTH - LEFT - RIGHT, HIGH)
        axes.set(xlim=common if name in shares else _ends([0.0, *_numbers(one, real)]), ylim=(-1, 1), yticks=())
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.tick_params(labelbottom=name not in shares[:-1])
        axes.spines["left"].set_visible(False)
        if real is not None:
            axes.axvspan(real.low, real.high, color=FAINT, alpha=0.3, lw=0)
            axes.axvline(real.value, color=FAINT, lw=1.5)
        dots.across(axes, 0, one, BLUE)
        middle = top + HIGH / 2
        sheet.text(LEFT - 45, middle - 16, literal(FIGURES.get(name, name)), ha="right", fontsize=11.5)
        if name in FIGURES:
            better = "the more the better" if name in SHARES else "the less the better"
            sheet.text(LEFT - 45, middle + 24, better, ha="right", fontsize=9, color=FAINT)
        sheet.text(WIDTH - RIGHT + 45, middle, f"{one}", ha="left", fontsize=11.5)
    handles = [
        Line2D([], [], color=BLUE, marker="o", ms=7, lw=5, alpha=0.8, label="samples, with the 95% interval"),
        Patch(color=FAINT, alpha=0.3, lw=0, label="real images"),
    ]
    place = (LEFT / WIDTH, 1 - 55 / sheet.height)
    sheet.figure.legend(handles=handles, bbox_to_anchor=place, ncols=2, loc="center left", borderaxespad=0)
    return sheet.figure


def _numbers(one: Measured, real: Measured | None) -> list[float]:
    return [*one, *(real or ())]


def _ends(numbers: list[float]) -> tuple[float, float]:
    """Of an axis that holds them, with some room."""
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room
