"""The figure of the likelihood: the terms of the bound by time, and its sum beside what the flow gives."""

from typing import Any

from matplotlib.figure import Figure

from ddim.report import dots
from ddim.report.measured import measured
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, GREEN, INK, Sheet

TOP, HIGH = 90, 620


def likelihood(record: Record) -> Figure | None:
    """On the left what each t adds to the bound; on the right both figures, if there are both, with intervals."""
    facts = record.results.get("likelihood")
    if facts is None:
        return None
    bound, flow = facts["bound"], facts.get("flow")
    sheet = Sheet(TOP + HIGH + 130)
    axes = sheet.axes(190, TOP, 880, HIGH)
    rows = sorted((row for row in bound["rows"] if row["bits"] > 0), key=lambda row: row["t"])
    axes.plot([row["t"] for row in rows], [row["bits"] for row in rows], "o-", color=BLUE, ms=4, lw=1.6)
    axes.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="bits per dimension")
    axes.set_ylim(dots.limits([row["bits"] for row in rows]))
    axes.set_title("what each $t$ adds to the bound", loc="left", fontsize=11.5, weight="bold", pad=10)

    axes = sheet.axes(1290, TOP, 660, HIGH)
    found = [("bound", measured(bound, "bits"), BLUE)]
    found += [("flow", measured(flow, "bits"), GREEN)] if flow is not None else []
    near: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
    for y, (_, one, colour) in enumerate(found):
        dots.across(axes, y, one, colour)
        axes.annotate(f"{one}", (one.value, y), (0, 12), color=INK, **near)
    ends = [number for _, one, _ in found for number in one]
    if flow is not None:
        axes.plot([flow["coarse"]], [1], "|", color=FAINT, ms=16, mew=2)
        near |= {"fontsize": 9, "va": "top"}
        axes.annotate("half as many steps", (flow["coarse"], 1), (0, -14), color=FAINT, **near)
        ends.append(flow["coarse"])
    room = (max(ends) - min(ends)) * 0.6 or 0.1
    axes.set(xlabel="bits per dimension", xlim=(min(ends) - room, max(ends) + room), ylim=(1.6, -0.6))
    axes.set_yticks(range(len(found)), [name for name, *_ in found], fontsize=12)
    axes.grid(axis="y", visible=False)
    axes.set_title("in all", loc="left", fontsize=11.5, weight="bold", pad=10)
    return sheet.figure
