"""Measure how far an image that is encoded and decoded is from itself, against the network calls.

    python benchmarks/inversion.py                         # 200 digits, 200 aeroplanes; continues where it stopped
    python benchmarks/inversion.py --draw                  # the table and the figure from what is there
    python benchmarks/inversion.py --count 2 --calls 12 --scratch DIR --out FILE.json    # checks that it works

The calls are those of both directions together, so that a method with more calls in a step takes fewer steps. The
images have their own labels, the timesteps are linear, and the network computes in fp32. The error is the mean square
over the pixels, from 0 to 1, of an image; the interval is that over images. The errors are kept in
runs/benchmarks/inversion, 50 images in a file. DDIM_DATA names the folder with MNIST and CIFAR-10. The results are
results/inversion.json and .md, docs/images/inversion.png, and a part of docs/editing.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import harness
import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from torch import Tensor

import ddim
from ddim.edit import Implicit, decode_exactly, encode_exactly, invert
from ddim.evaluate.intervals import Mean
from ddim.experiments.reconstruction import squared_error
from ddim.files import writing
from ddim.level import Denoise, Level
from ddim.pictures import sheet_marks
from ddim.plots import canvas
from ddim.plots.numbers import Estimate
from ddim.samplers import DDIM, trajectory
from ddim.timesteps import levels, timesteps

RESULT = Path(__file__).with_name("results") / "inversion.json"
PICTURE = harness.ROOT / "docs/images/inversion.png"
PART = 50  # images in a file
TITLES = {"mnist": "digits", "airplanes": "aeroplanes"}


class Method(NamedTuple):
    """A way to encode and decode, its network calls for each step of both, and its look."""

    back: Callable[[Denoise, Tensor, list[Level]], Tensor]
    cost: int
    color: str
    marker: str


def plain(denoise: Denoise, x0: Tensor, visited: list[Level]) -> Tensor:
    """Return the images after DDIM's steps in reverse and forwards."""
    *_, xT = invert(DDIM(), denoise, x0, visited)
    *_, end = trajectory(DDIM(), denoise, xT, visited)
    return end


def refined(iterations: int) -> Callable[[Denoise, Tensor, list[Level]], Tensor]:
    """Return the function whose steps towards noise are solved by iteration."""

    def back(denoise: Denoise, x0: Tensor, visited: list[Level]) -> Tensor:
        *_, xT = invert(Implicit(iterations), denoise, x0, visited)
        *_, end = trajectory(DDIM(), denoise, xT, visited)
        return end

    return back


def exact(denoise: Denoise, x0: Tensor, visited: list[Level]) -> Tensor:
    """Return the images after O-BELM's steps in both directions, in float64."""
    (code,) = encode_exactly(DDIM(), denoise, x0.double(), visited)
    *_, end = decode_exactly(DDIM(), denoise, code, visited)
    return end


METHODS = {
    "DDIM's steps in reverse": Method(plain, 2, canvas.RED, "D"),
    "`refine=1`": Method(refined(1), 3, canvas.ORANGE, "s"),
    "`refine=2`": Method(refined(2), 4, canvas.GREEN, "^"),
    "`exact=True`": Method(exact, 2, canvas.BLUE, "o"),
}


class Measurement:
    """A model, held-out images, and where their errors are kept."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.model = ddim.load(name, backend=options.backend, precision="fp32")
        self.x0, labels = ddim.open_images(name, split="test").batch(torch.arange(options.count))
        self.labels = None if self.model.classes is None else labels

    def path(self, method: str, calls: int, rows: range) -> Path:
        """Return the file of the errors of some images."""
        place = f"{method.replace('`', '').replace(' ', '-')}, {calls}"
        return Path(self.options.scratch, self.name, place, f"{rows.start:03d}-{rows.stop:03d}.npy")

    @torch.no_grad()
    def complete(self, method: str, calls: int, rows: range) -> None:
        """Measure the errors of some images, if they are not there."""
        path, one = self.path(method, calls, rows), METHODS[method]
        if path.exists():
            return
        began = time.process_time()
        labels = None if self.labels is None else self.labels[rows.start : rows.stop]
        denoise = self.model.denoise(labels, clip=False, served=PART)
        visited = levels(self.model.schedule, timesteps(self.model.schedule, calls // one.cost, "linear"))
        x0 = self.x0[rows.start : rows.stop]
        errors = squared_error(x0, one.back(denoise, x0, visited))
        with writing(path) as draft, draft.open("wb") as file:
            np.save(file, errors.double().numpy())
        seconds = time.process_time() - began
        print(f"{self.name}, {method}, {calls} calls, {rows}: {seconds:.0f} s of the processor", file=sys.stderr)

    def row(self, method: str, calls: int, parts: list[range]) -> dict[str, Any] | None:
        """Return the error of the images that are there; None without any."""
        paths = [self.path(method, calls, rows) for rows in parts]
        there = [np.load(path) for path in paths if path.exists()]
        if not there:
            return None
        found = Mean.of(torch.from_numpy(np.concatenate(there)))
        steps = calls // METHODS[method].cost
        return {"method": method, "calls": calls, "steps": steps, "error": found.mean, "margin": found.margin} | {
            "count": found.images
        }


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    rows = [(name, row) for name, model in found["models"].items() for row in model["rows"]]
    calls = sorted({row["calls"] for _, row in rows})
    lines = [f"| images | inversion |{''.join(f' {n} calls |' for n in calls)}", f"|---|---|{'--:|' * len(calls)}"]
    for name in found["models"]:
        for method in METHODS:
            own = {row["calls"]: row for of, row in rows if (of, row["method"]) == (name, method)}
            counts = " to ".join(str(n) for n in sorted({row["count"] for row in own.values()}))
            cells = [f"{own[n]['error']:.1e} ± {own[n]['margin']:.1e}" if n in own else "not measured" for n in calls]
            if own:
                lines.append(f"| {counts} {TITLES[name]} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any]) -> None:
    """Write the figure: a panel for each model, the error against the calls. That of the exact method is a number."""
    with canvas.styled():
        sheet = canvas.Canvas(760)
        names = [name for name, model in found["models"].items() if model["rows"]]
        drawn = {name: method for name, method in METHODS.items() if method.back is not exact}
        for i, name in enumerate(names):
            axes, rows = sheet.axes(170 + 930 * i, 170, 830, 470), found["models"][name]["rows"]
            ends = []
            for method, (_, _, color, marker) in drawn.items():
                own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["calls"])
                ys = [Estimate(row["error"], row["error"] - row["margin"], row["error"] + row["margin"]) for row in own]
                canvas.curve(axes, [row["calls"] for row in own], ys, color, marker)
                ends += [y.low for y in ys] + [y.high for y in ys]
            axes.set(xscale="log", yscale="log", ylim=canvas.log_limits(ends))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_title(f"held-out {TITLES[name]}", loc="left", fontsize=11, weight="bold")
            canvas.step_ticks(axes, sorted({row["calls"] for row in rows}))
            axes.set_xlabel("network calls, both directions")
            if not i:
                axes.set_ylabel("mean square error")
            if errors := [row["error"] for row in rows if METHODS[row["method"]].back is exact]:
                text = f"exact=True: about {max(errors):.0e}"
                axes.text(0.02, 0.04, text, transform=axes.transAxes, color=canvas.BLUE)
        handles = [
            Line2D([], [], color=one.color, marker=one.marker, ms=6, lw=1.8, label=name.replace("`", ""))
            for name, one in drawn.items()
        ]
        sheet.text(170, 45, "An image that is encoded and decoded", ha="left", fontsize=13, weight="bold")
        sheet.legend(handles, 170, 100)
        with writing(PICTURE) as draft:
            sheet.figure.savefig(draft, dpi=canvas.DPI, metadata=sheet_marks(), format="png")


def main() -> None:
    """Measure what is missing, part by part, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(TITLES))
    parser.add_argument("--calls", type=int, nargs="+", default=[12, 24, 48], help="multiples of 12")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks/inversion"), help="folder for errors")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    here = {name: Measurement(name, options) for name in options.models}
    parts = [range(start, min(start + PART, options.count)) for start in range(0, options.count, PART)]
    points = [(method, calls) for calls in options.calls for method in METHODS]
    for rows in [] if options.draw else parts:
        for model in here.values():
            for method, calls in points:
                model.complete(method, calls, rows)
    found: dict[str, Any] = {"models": {}, "machine": harness.machine()}
    for name, model in here.items():
        rows = [row for point in points if (row := model.row(*point, parts)) is not None]
        found["models"][name] = {"rows": rows, "backend": model.model.backend}
    harness.save(found, table(found), options.out)
    if options.out == RESULT:
        draw(found)
        harness.fill("docs/editing.md", "inversion.py", table(found))


if __name__ == "__main__":
    main()
