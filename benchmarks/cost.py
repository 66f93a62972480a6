"""Measure how seconds and memory grow with the work: batch, image size, steps, count and training images.

    python benchmarks/cost.py                       # about five minutes on an idle machine; Linux only
    python benchmarks/cost.py --repeats 1 --most 64 --out FILE.json   # only checks that it works
    python benchmarks/cost.py --draw                # the table and the figure again, from the JSON

Each point is a process of its own. Memory is its peak above what it held when the work began. The exponent is the
slope of log y over log x through the three largest values of a series, where constant costs hide the growth least. A
cost grows faster than it must if its exponent is larger than that of the work by more than 0.15. The networks are
small and untrained, because only the growth matters; that of the trainings is one convolution. The results are
results/cost.json, .md and .png.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import harness
import numpy as np
import torch

import ddim
from ddim.data import Images
from ddim.files import writing
from ddim.plots import canvas
from ddim.plots.numbers import three
from ddim.train import Plan, Recipe, train

RESULT = Path(__file__).with_name("results") / "cost.json"
TOLERANCE, FITTED = 0.15, 3  # of the exponent; points that it is fitted to
NETWORK = {"width": 16, "multipliers": (1, 1, 1, 1), "blocks": 1, "attention": ()}  # attends at an eighth of the size
HEIGHT, TOP, PANEL, LEFT, BETWEEN = 900, 110, 300, 120, 90  # pixels of the figure

Work = Callable[[], object]


def sampling(count: int, size: int, steps: int, batch: int) -> Work:
    """Set up `model.sample` in fp32, after a first short call."""
    model = ddim.Denoiser(ddim.nets.build("unet", 1, **NETWORK), ddim.schedule.linear(), shape=(1, size, size))
    model.sample(1, steps=1, progress=False)
    return lambda: model.sample(count, steps=steps, sampler="ddim", batch_size=batch, progress=False)


def noise(count: int) -> Images:
    """Return random images, as a data set of this size."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(count) % 2, ("even", "odd"), "noise")


@ddim.nets.register("convolution")
class Convolution(torch.nn.Module):
    """A network that costs nothing, so that a training shows its own costs."""

    def __init__(self, channels: int, classes: int | None = None) -> None:
        super().__init__()
        self.convolve = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return self.convolve(x)  # type: ignore[no-any-return]


def updates(count: int, steps: int = 100) -> Work:
    """Set up `ddim.train.fit` on so many images, after its first updates."""
    images = noise(count)
    model = ddim.Denoiser(Convolution(1), ddim.schedule.linear(), shape=images.shape)
    progress = ddim.train.fit(model, images, Plan(epochs=None, steps=steps + 3, batch_size=32))
    for _ in range(3):
        next(progress)

    def work() -> None:
        for _ in progress:
            pass

    return work


def start(count: int) -> Work:
    """Set up a whole training of one update into a run folder."""
    ddim.data.register("noise")(lambda split, *_: noise(count if split == "train" else 100))
    recipe = Recipe(data="noise", network="convolution", size="small", plan=Plan(epochs=None, steps=1, batch_size=32))

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(recipe, folder)

    return work


@dataclass(frozen=True)
class Series:
    """What grows, the work for each value, and the exponents that seconds and memory must have at least."""

    what: str
    values: tuple[int, ...]
    work: Callable[[int], Work]
    seconds: float
    memory: float


SERIES = {
    "batch": Series("images in a batch", (1, 4, 16, 64, 256), lambda n: sampling(n, 28, 10, n), 1, 1),
    "size": Series("pixels a side", (8, 16, 32, 64, 128), lambda n: sampling(4, n, 10, 4), 2, 2),
    "steps": Series("steps", (5, 20, 100, 300, 1000), lambda n: sampling(4, 16, n, 4), 1, 0),
    "count": Series("images, 64 at a time", (1, 10, 100, 1000, 10_000), lambda n: sampling(n, 8, 5, 64), 1, 1),
    "updates": Series("training images: 100 updates", (100, 1000, 10_000, 60_000), updates, 0, 0),
    "start": Series("training images: start and one update", (100, 1000, 10_000, 60_000), start, 1, 1),
}


def point(name: str, value: int, threads: int) -> tuple[float, float]:
    """Return the seconds and the MiB of one point, in a process of its own."""
    torch.set_num_threads(threads)
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - what a training prints
    work = SERIES[name].work(value)
    before = harness.memory("VmRSS")
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    peak = harness.memory() - before
    del result
    return seconds, max(peak, 1.0)


def exponent(values: list[int], costs: list[float]) -> float:
    """Return the slope of log cost over log value through the largest values."""
    x, y = np.log(values[-FITTED:]), np.log(costs[-FITTED:])
    return float(np.polyfit(x, y, 1)[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the medians and the exponents of all series."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ddim", "ddim.train", "ddim.nets", "ddim.plots.canvas", "matplotlib.figure"])
    todo = [(name, n) for name in options.series for n in SERIES[name].values if n <= options.most]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {one: [] for one in todo}
    with context.Pool(1, maxtasksperchild=1) as pool:
        for round_ in range(options.repeats):
            for name, n in todo:
                found[name, n].append(pool.apply(point, (name, n, options.threads)))
                print(f"round {round_ + 1}/{options.repeats}: {name} {n:,}", file=sys.stderr, flush=True)
    result = {}
    for name in options.series:
        values = [n for one, n in todo if one == name]
        rows = [
            {"value": n, "seconds": median(s for s, _ in found[name, n]), "mib": median(m for _, m in found[name, n])}
            for n in values
        ]
        result[name] = {
            "rows": rows,
            "seconds_exponent": exponent(values, [row["seconds"] for row in rows]),
            "memory_exponent": exponent(values, [row["mib"] for row in rows]),
        }
    return result


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return a sentence for each cost that grows faster than it must, or one that none does."""
    faster = []
    for name, one in found["series"].items():
        for cost, must in (("seconds", SERIES[name].seconds), ("memory", SERIES[name].memory)):
            if one[f"{cost}_exponent"] > must + TOLERANCE:
                faster.append(f"{name}: {cost} grow with the power {one[f'{cost}_exponent']:.2f}, not {must:g}.")
    return faster or ["Nothing grows faster than it must."]


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [
        "| what grows | from | to | seconds | exponent (must) | MiB | exponent (must) |",
        "|---|--:|--:|---|--:|---|--:|",
    ]
    for name, one in found["series"].items():
        first, last, series = one["rows"][0], one["rows"][-1], SERIES[name]
        cells = [series.what, f"{first['value']:,}", f"{last['value']:,}"]
        cells += [f"{three(first['seconds'])} to {three(last['seconds'])}"]
        cells += [
            f"{one['seconds_exponent']:.2f} ({series.seconds:g})",
            f"{three(first['mib'])} to {three(last['mib'])}",
        ]
        lines.append(f"| {' | '.join(cells)} | {one['memory_exponent']:.2f} ({series.memory:g}) |")
    return "\n".join([*lines, "", *verdicts(found)]) + "\n"


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw seconds above memory for each series, with the slope that each must have."""
    names = list(found["series"])
    with canvas.styled():
        sheet = canvas.Canvas(HEIGHT)
        width = (canvas.WIDTH - LEFT - 20) / len(names)
        for i, name in enumerate(names):
            rows, series = found["series"][name]["rows"], SERIES[name]
            values = [row["value"] for row in rows]
            for j, (cost, must) in enumerate((("seconds", series.seconds), ("mib", series.memory))):
                axes = sheet.axes(LEFT + i * width, TOP + j * (PANEL + BETWEEN), width - 75, PANEL)
                costs = [row[cost] for row in rows]
                line = [costs[-1] * (n / values[-1]) ** must for n in values]
                axes.plot(values, line, color=canvas.FAINT, lw=1.2, ls=(0, (4, 2)))
                axes.plot(values, costs, "o-", color=canvas.BLUE, ms=4, lw=1.4)
                axes.set(xscale="log", ylim=canvas.log_limits(costs))
                canvas.log_axis(axes.yaxis, axes.set_yscale)
                axes.tick_params(labelsize=7.5)
                slope = found["series"][name]["seconds_exponent" if cost == "seconds" else "memory_exponent"]
                axes.text(0.05, 0.93, f"{slope:.2f} ({must:g})", transform=axes.transAxes, va="top", fontsize=8.5)
                if i == 0:
                    axes.set_ylabel("seconds" if cost == "seconds" else "MiB", fontsize=9)
                if cost == "seconds":
                    axes.set_title(name, loc="left", fontsize=10, weight="bold")
                else:
                    axes.set_xlabel(series.what.split(":")[0], fontsize=8)
        sheet.text(
            LEFT,
            40,
            "Dashed: the growth of the work. The numbers: exponent, and that of the work.",
            ha="left",
            fontsize=10,
        )
        with writing(path) as draft:
            sheet.figure.savefig(draft, dpi=canvas.DPI)


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=10**9, help="leave out larger values")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.draw:
        found = json.loads(options.out.read_text(encoding="utf-8"))
    else:
        load, began = os.getloadavg()[0], time.time()
        found = {"series": measure(options), "machine": harness.machine(), "threads": options.threads}
        found |= {"repeats": options.repeats, "load_before": round(load, 2)}
        found["minutes"] = round((time.time() - began) / 60, 1)
    harness.save(found, table(found), options.out)
    draw(found, options.out.with_suffix(".png"))
    if options.out == RESULT:
        figure = "![Seconds and memory against the work](../benchmarks/results/cost.png)"
        harness.fill("docs/speed.md", "cost.py", f"{figure}\n\n{table(found)}")


if __name__ == "__main__":
    main()
