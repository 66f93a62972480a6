"""Measure how close each solver comes, on a trained model, to the endpoint of 1,000 steps, by network calls.

    python benchmarks/solvers.py RUN                     # every solver and spacing at 5, 8, 10, 20 and 50 calls
    python benchmarks/solvers.py RUN --device cuda --count 256
    python benchmarks/solvers.py                         # draws the tables and the figure of the docs again

writes results/solvers.json and .md, and from them the table and the figure of docs/choosing-a-solver.md. It
measures the same as `ddim verify RUN`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import harness
import msgspec

from ddim import model_io, progress, samplers
from ddim.device import choose_device
from ddim.experiments.results import load_json
from ddim.experiments.solvers import BUDGETS, Result, Start, draw, network_calls, trials
from ddim.experiments.solvers import measure as measure_distances
from ddim.files import json_values, write_text
from ddim.loading import find, load
from ddim.plots import canvas
from ddim.verify.checks import calls_per_step

RESULT = Path(__file__).with_name("results") / "solvers.json"
FIGURE = harness.ROOT / "docs" / "images" / "solvers"
SHOWN = (5, 10, 20, 50)  # calls in the table of the docs
PAPERS = {
    "ddim": ("DDIM", "2010.02502"),
    "ddpm": ("DDPM", "2006.11239"),
    "plms": ("PNDM, multistep alone", "2202.09778"),
    "pndm": ("PNDM", "2202.09778"),
    "ipndm": ("DEIS, iPNDM", "2204.13902"),
    "deis": ("DEIS, tAB", "2204.13902"),
    "heun": ("EDM", "2206.00364"),
    "dpm-2": ("DPM-Solver-2", "2206.00927"),
    "dpm-3": ("DPM-Solver-3", "2206.00927"),
    "dpmpp-2s": ("DPM-Solver++(2S)", "2211.01095"),
    "dpmpp-2m": ("DPM-Solver++(2M)", "2211.01095"),
    "dpmpp-3m": ("DPM-Solver++(3M)", "2211.01095"),
    "dpmpp-2m-sde": ("SDE-DPM-Solver++(2M)", "2211.01095"),
    "unipc": ("UniPC", "2302.04867"),
    "er-sde": ("ER-SDE-Solver", "2309.06169"),
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the distances and how they were measured."""
    folder = find(options.run)
    model = load(folder).to(choose_device(options.device))
    todo = trials(model, options.calls, options.solvers, options.spacings)
    with progress.bar(total=network_calls(model, todo), unit="call") as bar:
        start = Start(model, options.count, options.seed, bar.update)
        found = measure_distances(start, todo, start.reference())
    about = {"run": folder.resolve().name, "weights": model_io.fingerprint(folder)}
    return {**about, "device": str(model.device), "machine": harness.machine(), **json_values(asdict(found))}


def whole_table(found: Result, facts: dict[str, Any]) -> str:
    """Return the distances of every solver with every spacing, in Markdown."""
    lines = [
        f"Root mean square distance to the endpoint of {found.reference_steps:,} DDIM steps from the same noise,",
        f"images in [-1, 1]; {found.count} images of `{facts['run']}` (weights {facts['weights'][:12]}).",
        f"Differences below {found.floor:.4f}, the error of the endpoint itself, mean little. `-`: no step fits.",
        "Bold: the smallest distance.",
        "",
        "| solver | spacing | " + " | ".join(f"{budget} calls" for budget in found.budgets) + " |",
        "|---|---|" + "--:|" * len(found.budgets),
    ]
    best = {budget: found.best(budget) for budget in found.budgets}
    cells = {(row.solver, row.spacing, row.budget): row for row in found.rows}
    for solver in found.solvers:
        for spacing in found.spacings:
            rows = [cells.get((solver, spacing, budget)) for budget in found.budgets]
            words = [
                "-" if row is None else f"**{row.error:.4f}**" if row == best[row.budget] else f"{row.error:.4f}"
                for row in rows
            ]
            lines.append(f"| {solver} | {spacing} | " + " | ".join(words) + " |")
    return "\n".join([*lines, "", *found.suggest()]) + "\n"


def docs_table(found: Result) -> str:
    """Return a row for each solver: its paper, its order, and its smallest distance over all spacings."""
    budgets = [budget for budget in SHOWN if budget in found.budgets]
    lines = [
        "| solver | paper | order | calls a step | " + " | ".join(f"{budget} calls" for budget in budgets) + " |",
        "|---|---|--:|--:|" + "---|" * len(budgets),
    ]
    best = {budget: found.best(budget) for budget in budgets}
    for name in samplers.names():
        sampler = samplers.get(name)
        title, number = PAPERS.get(name, ("", ""))
        paper = f"[{title}](https://arxiv.org/abs/{number})" if number else ""
        cells = [f"`{name}`", paper, str(sampler.order), f"{calls_per_step(sampler):.3g}"]
        for budget in budgets:
            near = found.best(budget, name)
            bold = "**" if near == best[budget] else ""
            absent = "stochastic" if sampler.stochastic and budget == budgets[0] else ""
            cells.append(f"{bold}{near.error:.3f}{bold} {near.spacing}" if near else absent)
        lines.append("| " + " | ".join(cells) + " |")
    spacings = ", ".join(found.spacings)
    about = f"{found.count} images of our MNIST model; spacings: {spacings}."
    about += f" Error of the endpoint itself: {found.floor:.4f}."
    return "\n".join([*lines, "", about]) + "\n"


def redraw() -> None:
    """Write the tables and the figure from the JSON."""
    facts = load_json(RESULT)
    found = msgspec.convert(facts, Result)
    write_text(RESULT.with_suffix(".md"), whole_table(found, facts))
    with canvas.styled():
        canvas.save(draw(found), FIGURE)
    FIGURE.with_suffix(".svg").unlink()  # the page shows the PNG
    harness.fill("docs/choosing-a-solver.md", "solvers.py", docs_table(found))
    print(RESULT.with_suffix(".md").read_text(encoding="utf-8"))


def main() -> None:
    """Measure, if a run is given, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", help="folder of a run, or a model that comes with ddim; none: draw the stored result"
    )
    parser.add_argument("--count", type=int, default=32, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--calls", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--solvers", nargs="+", help="only these solvers")
    parser.add_argument("--spacings", nargs="+", help="only these spacings")
    options = parser.parse_args()
    if options.run is not None:
        write_text(RESULT, json.dumps(measure(options), indent=2) + "\n")
    redraw()


if __name__ == "__main__":
    main()
