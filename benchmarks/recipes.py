"""Which training recipe learns most from as many updates: weightings, targets, schedules and times, one by one.

`python benchmarks/recipes.py digits` or `mnist` trains every variant below with the same network, batch and number
of updates, from the same first weights, draws 1,000 images from each at 10 and at 50 DDIM steps, and writes
results/recipes-DATA.json and .md. It goes on where it was stopped. DDIM_DATA names the folder that holds MNIST.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import judge
import numpy as np
import torch
from numpy.typing import NDArray

from ddim import load, open_images
from ddim.data import to_uint8
from ddim.files import write_text
from ddim.train import Recipe
from ddim.train import recipe as recipes
from ddim.train.run import train

RESULTS, RUNS = Path(__file__).parent / "results", Path("runs/benchmarks/recipes")
COUNT, STEPS = 1000, (10, 50)
UPDATES = {"digits": 1800, "mnist": 700}
PAPER: dict[str, Any] = {"schedule": "linear", "predicts": "eps"}
PLAIN: dict[str, Any] = {"weighting": "simple", "times": "uniform"}

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the recipe, of its plan
    "the paper's loss": ({}, {}),
    "+ stratified times": ({}, {"times": "stratified"}),
    "+ min-SNR": ({}, {"weighting": "min-snr"}),
    "+ soft min-SNR": ({}, {"weighting": "soft-min-snr"}),
    "+ cosine schedule": ({"schedule": "cosine"}, {}),
    "+ v": ({"predicts": "v"}, {}),
    "+ v, min-SNR": ({"predicts": "v"}, {"weighting": "min-snr"}),
    "+ v, cosine": ({"schedule": "cosine", "predicts": "v"}, {}),
    "+ v, cosine, min-SNR": ({"schedule": "cosine", "predicts": "v"}, {"weighting": "min-snr"}),
}


def variants(base: Recipe, updates: int, learning_rate: float | None) -> dict[str, Recipe]:
    """Every variant of the recipe: the paper's loss, with one thing or a few changed."""
    plan = replace(base.plan, epochs=None, minutes=None, steps=updates, **PLAIN)
    plan = plan if learning_rate is None else replace(plan, learning_rate=learning_rate)
    return {
        name: replace(base, conditional=True, **{**PAPER, **top}, plan=replace(plan, **table))
        for name, (top, table) in VARIANTS.items()
    }


def distance(data: str) -> Callable[[torch.Tensor], float]:
    """A function of (N, C, H, W) uint8 samples: the Frechet distance to the held-out images.

    For MNIST in the judge's features. Digits of 8x8 are so small that their 64 pixels are features enough.
    """
    if data == "mnist":
        return lambda samples: judge.frechet(judge.features(samples), judge.reference())
    images = open_images(data)
    real = np.concatenate([pixels(images.batch(torch.arange(len(images)))[0]), pixels(held_out(data))])
    return lambda samples: judge.frechet(pixels(samples.float() / 127.5 - 1), real)


def held_out(data: str) -> torch.Tensor:
    """The held-out images in [-1, 1]."""
    images = open_images(data, split="test")
    return images.batch(torch.arange(len(images)))[0]


def pixels(images: torch.Tensor) -> NDArray[np.float64]:
    """(N, C H W) float64."""
    return images.flatten(1).double().numpy()


def measure(run: Path, far: Callable[[torch.Tensor], float], raw: bool = False) -> dict[str, float]:
    """The distance of a run's samples at each number of steps, from the averaged or the latest weights."""
    model = load(run, raw=raw)
    return {f"{S} steps": far(to_uint8(model.sample(COUNT, steps=S, batch_size=100))) for S in STEPS}


def table(data: str, rows: dict[str, dict[str, float]]) -> str:
    """The results in Markdown, the best of each column in bold."""
    columns = list(next(iter(rows.values())))
    best = {column: min(row[column] for row in rows.values()) for column in columns}
    lines = [f"| {data} | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name, row in rows.items():
        cells = (f"**{row[c]:.4g}**" if row[c] == best[c] else f"{row[c]:.4g}" for c in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, sample and score what is not there yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(UPDATES))
    parser.add_argument("--updates", type=int, help="of each training")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    options = parser.parse_args()
    updates = options.updates or UPDATES[options.data]
    path = RESULTS / f"recipes-{options.data}.json"
    rows: dict[str, dict[str, float]] = json.loads(path.read_text())["rows"] if path.exists() else {}
    far = distance(options.data)
    for name, recipe in variants(recipes.shipped(options.data), updates, options.learning_rate).items():
        run = RUNS / options.data / name.replace(" ", "-").replace(",", "").replace("'", "")
        if name not in rows:
            train(recipe, run, resume=True)
            rows[name] = measure(run, far)
            if not VARIANTS[name][0] and not VARIANTS[name][1]:
                rows["the same, weights not averaged"] = measure(run, far, raw=True)
        facts = {"updates": updates, "batch_size": recipe.plan.batch_size, "images": COUNT, "rows": rows}
        write_text(path, json.dumps(facts, indent=2) + "\n")
        write_text(path.with_suffix(".md"), table(options.data, rows))
        print(name, rows[name], flush=True)


if __name__ == "__main__":
    main()
