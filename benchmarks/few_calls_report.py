"""The tables and the figures of few_calls.py, from its stored results."""

import math
from pathlib import Path
from typing import Any

import harness
from matplotlib.lines import Line2D

from ddim.plots import canvas
from ddim.plots.numbers import Estimate

RESULT = Path(__file__).with_name("results") / "few-calls.json"
KINDS = {  # kind -> its name in tables and figures, colour, marker
    "preset": ("preset", canvas.BLUE, "o"),
    "plain": ("best plain solver", canvas.ORANGE, "s"),
    "ddim": ("DDIM", canvas.RED, "D"),
    "gits-ipndm": ("iPNDM, times of GITS", canvas.GREEN, "^"),
    "gits-ddim": ("DDIM, times of GITS", canvas.PURPLE, "v"),
}
APART = 0.012  # relative distance of two kinds at the same number of calls, so that both are seen
AIMS = ((8, 50), (5, 20))  # calls of a preset, and DDIM's, whose distance it is to reach


def tables(found: dict[str, Any]) -> str:
    """Return the tables of all models in Markdown."""
    parts = [f"### {name}\n\n{table(model)}" for name, model in found["models"].items() if model.get("rows")]
    return "\n".join(parts)


def table(model: dict[str, Any]) -> str:
    """Return the distances of one model, whether the aims are reached, and what tuning took."""
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in model["rows"])]
    lines = [
        "| calls | samples | " + " | ".join(KINDS[kind][0] for kind in kinds) + " | real images |",
        "|--:|--:|" + "---|" * len(kinds) + "---|",
    ]
    cells = {(row["kind"], row["calls"]): row for row in model["rows"]}
    for calls in sorted({row["calls"] for row in model["rows"]}):
        rows = [cells.get((kind, calls)) for kind in kinds]
        known = [row for row in rows if row]
        least, count = min(row["distance"][0] for row in known), known[0]["count"]
        words = [cell(row, least) for row in rows]
        floor = Estimate(*model["floors"][str(count)])
        lines.append(f"| {calls} | {count:,} | " + " | ".join(words) + f" | {floor.short} |")
    lines += ["", *(f"- {sentence}" for sentence in verdicts(model))]
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None, least: float) -> str:
    """Return the distance with half its interval, the accuracy and the method; the least distance is bold."""
    if row is None:
        return ""
    text = Estimate(*row["distance"]).short
    text = f"**{text}**" if math.isclose(row["distance"][0], least, rel_tol=0.005) else text
    accuracy = f", {row['accuracy'][0]:.1%}" if "accuracy" in row else ""
    return f"{text}{accuracy}" + (f"; {row['method']}" if row["kind"] in ("preset", "plain", "ddim") else "")


def verdicts(model: dict[str, Any]) -> list[str]:
    """Return a sentence for each aim, and one for the seconds of tuning."""
    said = []
    for calls, many in AIMS:
        if aim := model["aims"].get(f"{calls} against {many}"):
            value, low, high = aim["excess"]
            word = "reached" if value <= 0 else "missed" if low > 0 else "open"
            how = "smaller" if high < 0 else "larger" if low > 0 else "not measurably different"
            said.append(
                f"The preset of {calls} calls is to be at least as good as {many} calls of DDIM: {word}. Its distance "
                f"minus theirs is {value:+.2f} ({low:+.2f} to {high:+.2f}), {how}; {aim['count']:,} samples."
            )
    if seconds := model.get("tuning"):
        each = ", ".join(f"{n}: {seconds[n]:,.0f}" for n in sorted(seconds, key=int))
        said.append(f"Tuning took {sum(seconds.values()):,.0f} seconds in all; by calls: {each}.")
    return said


def figure(name: str, model: dict[str, Any]) -> Any:
    """Return the figure of one model: distance against calls."""
    page = canvas.Canvas(900)
    axes = page.axes(150, 130, canvas.WIDTH - 150 - 60, 640)
    ticks = sorted({row["calls"] for row in model["rows"]})
    handles = []
    for place, (kind, (label, color, marker)) in enumerate(KINDS.items()):
        rows = sorted((row for row in model["rows"] if row["kind"] == kind), key=lambda row: row["calls"])
        if rows:
            xs = [row["calls"] * (1 + APART * (place - 2)) for row in rows]
            canvas.curve(axes, xs, [Estimate(*row["alike"]) for row in rows], color, marker)
            handles.append(Line2D([], [], color=color, marker=marker, ms=5, lw=1.8, label=label))
    count = min(map(int, model["floors"]))
    floor = Estimate(*model["floors"][str(count)])
    axes.axhspan(floor.low, floor.high, color=canvas.FAINT, alpha=0.15, lw=0)
    axes.axhline(floor.value, color=canvas.FAINT, lw=1.2, ls="--")
    handles.append(Line2D([], [], color=canvas.FAINT, lw=1.2, ls="--", label=f"{count:,} real images"))
    ends = [end for row in model["rows"] for end in row["alike"]] + list(floor.ends)
    axes.set(xscale="log", xlabel="evaluations of the network for an image", ylabel="Fréchet distance")
    canvas.log_axis(axes.yaxis, axes.set_yscale)
    axes.set_ylim(canvas.log_limits(ends))
    canvas.step_ticks(axes, ticks)
    page.text(150, 45, f"models/{name}, {count:,} samples", ha="left", fontsize=13, weight="bold")
    page.legend(handles, 150, 95, fontsize=9, columnspacing=1.4)
    return page.figure


def show(found: dict[str, Any]) -> None:
    """Write the tables into the pages, and the figures beside the models."""
    harness.fill("docs/choosing-a-solver.md", "few_calls.py", tables(found))
    for name, model in found["models"].items():
        if model.get("rows"):
            stem = harness.ROOT / "models" / name / "few-calls"
            with canvas.styled():
                canvas.save(figure(name, model), stem)
            stem.with_suffix(".svg").unlink()  # the card shows the PNG
            harness.fill(f"models/{name}/README.md", "few_calls.py", table(model))
