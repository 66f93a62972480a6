"""Measure what refinement is worth if the contrasts of the teacher's images count beside their pixels.

    python benchmarks/refinement.py                        # about 12 minutes of one core; continues where it stopped
    python benchmarks/refinement.py --cases mnist:5 --weights 0 0.2 --count 100 --out FILE.json    # only a check

A case is a model and a number of network calls. Refinement starts at the solver and the times of the model's preset,
without corrections, and goes towards the ends of UniPC's trajectories in 60 steps from 16 noises. The samples that are
measured start from other noise, as at acceptance. DDIM_DATA names the folder with MNIST and CIFAR-10.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import harness
import torch

import ddim
from ddim.device import evaluating
from ddim.evaluate import measure
from ddim.evaluate.real import labels_for
from ddim.noise import ImageNoise
from ddim.presets import Method
from ddim.tune import ACCEPTED_ON, NOISES, extractors
from ddim.tune.refine import Distance, refine

RESULT = Path(__file__).with_name("results") / "refinement.json"
TEACHER = {"sampler": "unipc", "steps": 60, "spacing": "log-snr"}
METRICS = ("frechet", "precision", "recall", "coverage")


def row(name: str, calls: int, weight: float, count: int) -> dict[str, Any]:
    """Refine a model's method with a weight of the contrasts, and measure samples of it."""
    model, began = ddim.load(name, backend="torch"), time.time()
    preset = next(one for one in model.presets if one.calls == calls)
    held_out = ddim.open_images(name, split="test")
    _, extractor = extractors(model, held_out, None)
    labels = None if model.classes is None else torch.arange(NOISES) % model.classes
    noise = ImageNoise(0, range(NOISES))(torch.empty(NOISES, *model.shape))
    with torch.no_grad(), evaluating(model.network):
        *_, end = model.trajectory(NOISES, labels=labels, **TEACHER)
        distance = Distance(model.denoise(labels), noise, end.x, model.schedule, extractor, weight)
        method = refine(Method(sampler=preset.sampler, times=preset.times), distance)
    seconds = time.time() - began
    wanted, _ = labels_for(model, held_out, count)
    pixels = ddim.load(name).sample(
        count,
        sampler=method.create(),
        spacing=method.times,
        labels=wanted,
        first=ACCEPTED_ON,
        progress=False,
        pixels=True,
    )
    metrics = measure(pixels, held_out, labels=wanted, progress=False).to_dict()["metrics"]
    return {
        "model": name,
        "calls": calls,
        "weight": weight,
        "count": count,
        "seconds": round(seconds, 1),
        "solver": method.sampler,
        "metrics": {kind: metrics[kind] for kind in METRICS},
    }


def table(found: dict[str, Any]) -> str:
    """Return all rows as Markdown."""
    lines = [
        "| model, calls | weight of the contrasts | Fréchet distance | precision | recall | coverage |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for one in sorted(found["rows"], key=lambda one: (one["model"], one["calls"], one["weight"])):
        cells = [f"{one['metrics'][kind]['value']:.{2 if kind == 'frechet' else 3}f}" for kind in METRICS]
        lines.append(f"| {one['model']}, {one['calls']} | {one['weight']:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the rows that are missing, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["airplanes:4", "airplanes:5", "mnist:5"], metavar="MODEL:CALLS")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.6])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    rows = found.setdefault("rows", [])
    for case in options.cases:
        name, _, calls = case.partition(":")
        for weight in options.weights:
            wanted = {"model": name, "calls": int(calls), "weight": weight, "count": options.count}
            if any(wanted.items() <= one.items() for one in rows):
                continue
            rows.append(row(name, int(calls), weight, options.count))
            found["machine"] = harness.machine()
            harness.save(found, table(found), options.out)
            print(f"{case}, weight {weight:g}: done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
