"""Compare networks at equal time on MNIST: which one draws the better digits after M minutes of two cores?

    python benchmarks/networks.py measure [NAME...]              # the cost of an update and of a call
    python benchmarks/networks.py train NAME... --minutes 5      # train and judge, each for an equal time

`measure` reads the processor time of an update, in turns with `micro`, and keeps its ratio to `micro`: other programs
on the machine disturb the ratio little. `train` makes as many updates as the minutes of an idle machine allow at that
ratio, however long it takes by the clock, draws 1,000 images in 10 DDIM steps without guidance, each digit equally
often, and judges them with judge.py. An interrupted training continues. Both write networks.json and networks.md into
results. DDIM_DATA names the folder that holds MNIST.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import candidates
import judge
import numpy as np
import torch
from flops import gflop

from ddim import Denoiser, open_images
from ddim.data import to_uint8
from ddim.files import write_text
from ddim.train import Recipe, fit
from ddim.train import recipe as recipes
from ddim.train.run import build, train

RESULTS, RUNS = Path(__file__).parent / "results", Path("runs/benchmarks/networks")
COUNT, STEPS = 1000, 10
MICRO = 0.250  # seconds of an update of 64 images of `micro` in bf16, on two idle cores (229 to 268 ms)
SPARED = 0.95  # of the time; the rest is for validation and saving
ROUNDS = 4  # of `measure`; in each round, every candidate has its turn


def recipe(name: str, steps: int | None = None) -> Recipe:
    """Return the recipe of a candidate, with a number of updates."""
    network, size, changes = candidates.CANDIDATES[name]
    base = replace(recipes.shipped("mnist"), network=network, size=size)
    plan: dict[str, Any] = {"precision": "bf16", "epochs": None, "minutes": None, "steps": steps}
    plan |= {"optimizer": "adamw", "weighting": "min-snr", "label_dropout": 0.1, **changes}
    return replace(base, plan=replace(base.plan, **plan))


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call, over all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(names: list[str]) -> dict[str, dict[str, float]]:
    """Return for each candidate its size, its operations and its costs relative to those of `micro`."""
    images = open_images("mnist")
    models: dict[str, Denoiser] = {name: build(recipe(name), images) for name in ["micro", *names]}
    rows = {
        name: {
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "gflop": gflop(model.network, images.shape),
        }
        for name, model in models.items()
    }
    updates = {name: fit(model, images, recipe(name, 10**6).plan) for name, model in models.items()}
    spent: dict[str, list[float]] = {name: [] for name in models}
    for name in models:
        for _ in range(2):
            next(updates[name])
    for _ in range(ROUNDS):
        for name, update in updates.items():
            spent[name].append(seconds(lambda update=update: next(update)))  # type: ignore[misc]
    calls: dict[str, list[float]] = {name: [] for name in models}
    x, t = torch.randn(64, *images.shape), torch.full((64,), 500.0)
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            with torch.no_grad():
                calls[name].append(seconds(lambda model=model: model.network(x, t)))  # type: ignore[misc]
    for name, row in rows.items():
        row["update_cpu_seconds"] = round(min(spent[name]), 4)
        row["update"] = round(min(spent[name]) / min(spent["micro"]), 3)
        row["call"] = round(min(calls[name][1:]) / min(calls["micro"][1:]), 3)
    return rows


def work(name: str, minutes: float, cost: float) -> dict[str, Any]:
    """Train a candidate for an equal time, and judge it."""
    steps = int(SPARED * 60 * minutes / (MICRO * cost))
    run = RUNS / re.sub(r"[^a-z0-9.]+", "-", f"{name}-{minutes:g}")
    began = time.process_time()
    model = train(recipe(name, steps), run, device="cpu", resume=True, save_every=120)
    spent = time.process_time() - began
    samples = to_uint8(model.sample(COUNT, steps=STEPS, sampler="ddim", progress=False))
    found = judge.score(samples, torch.arange(COUNT) % 10)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "updates": steps,
        "cpu_seconds": round(spent),
        "held_out": last["held_out"],
        "frechet": round(float(np.float64(found["frechet"])), 2),
        "agreement": round(float(np.float64(found["agreement"])), 4),
    }


def table(kept: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [
        "Processor time relative to `micro`: of an update in bf16, and of a call on 64 images in fp32.",
        "",
        "| name | network and changes of the recipe | parameters | GFLOP a call | an update | a call |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in (name for name in candidates.CANDIDATES if name in kept["costs"]):
        cost = kept["costs"][name]
        lines.append(
            f"| {name} | {candidates.describe(name)} | {cost['parameters']:,} | {cost['gflop']:.2f} | "
            f"{cost['update']:.2f} | {cost['call']:.2f} |"
        )
    lines += [
        "",
        f"Fréchet distance and accuracy of {COUNT:,} samples, {STEPS} DDIM steps, no guidance, after equal times.",
        "",
        "| minutes | name | updates | distance | accuracy | command |",
        "|--:|---|--:|--:|--:|---|",
    ]
    for row in sorted(kept["rows"].values(), key=lambda row: (row["minutes"], row["frechet"])):
        command = f'`python benchmarks/networks.py train "{row["name"]}" --minutes {row["minutes"]:g}`'
        found = f"{row['updates']:,} | {row['frechet']:.1f} | {row['agreement']:.1%}"
        lines.append(f"| {row['minutes']:g} | {row['name']} | {found} | {command} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "train"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(candidates.CANDIDATES)}; all")
    parser.add_argument("--minutes", type=float, default=5.0, help="of two idle cores")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    path = RESULTS / "networks.json"

    def keep(kind: str, found: dict[str, Any]) -> dict[str, Any]:
        kept = json.loads(path.read_text()) if path.exists() else {"costs": {}, "rows": {}}
        kept[kind] |= found
        if found:
            write_text(path, json.dumps(kept, indent=2) + "\n")
            write_text(path.with_suffix(".md"), table(kept))
        return kept  # type: ignore[no-any-return]

    names = options.names or list(candidates.CANDIDATES)
    if options.what == "measure":
        print(json.dumps(keep("costs", measure([name for name in names if name != "micro"]))["costs"], indent=1))
        return
    for name in names:
        kept = keep("rows", {})
        missing = [name] if name not in kept["costs"] else []
        cost = keep("costs", measure(missing))["costs"][name]["update"] if missing else kept["costs"][name]["update"]
        key = f"{name}, {options.minutes:g} minutes"
        if key not in kept["rows"]:
            row = {"name": name, "minutes": options.minutes, **work(name, options.minutes, cost)}
            keep("rows", {key: row})
            print(row, flush=True)


if __name__ == "__main__":
    main()
