"""Compare settings of a training recipe: each changed by itself, at equal compute.

    python benchmarks/recipes.py digits --jobs 4
    python benchmarks/recipes.py mnist --jobs 8 --device cuda

trains every variant below for the number of updates that two idle CPU cores make in 25 minutes (MNIST) or that the
quick recipe has (digits), draws 1,000 images of each in 10 and in 50 DDIM steps, and writes recipes-DATA.json and
.md into results. Only the number of updates counts, so any device can make them. After an interrupt it continues.
DDIM_DATA names the folder that holds MNIST.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import judge
import numpy as np
import torch
from flops import gflop
from torch import Tensor

from ddim import load, nets, open_images
from ddim.data import to_uint8
from ddim.evaluate.frechet import frechet, gaussian
from ddim.files import write_text
from ddim.train import Plan, Recipe, checkpoints
from ddim.train import recipe as recipes
from ddim.train.run import build, train

RESULTS, RUNS = Path(__file__).parent / "results", Path("runs/benchmarks/recipes")
COUNT, STEPS = 1000, (10, 50)
Changes = tuple[dict[str, Any], dict[str, Any]]  # changes of a recipe, and of its plan

LOSS: dict[str, Changes] = {
    "base": ({}, {}),
    "uniform times": ({}, {"times": "uniform"}),
    "min-SNR": ({}, {"weighting": "min-snr"}),
    "soft min-SNR": ({}, {"weighting": "soft-min-snr"}),
    "cosine": ({"schedule": "cosine"}, {}),
    "v": ({"predicts": "v"}, {}),
    "v, min-SNR": ({"predicts": "v"}, {"weighting": "min-snr"}),
    "v, cosine": ({"predicts": "v", "schedule": "cosine"}, {}),
    "v, cosine, min-SNR": ({"predicts": "v", "schedule": "cosine"}, {"weighting": "min-snr"}),
}
BEST: Changes = ({"predicts": "v"}, {"weighting": "min-snr"})  # the best of the variants above, on MNIST
SPEND: dict[str, Changes] = {  # the same time for fewer or for more updates
    f"v, min-SNR, {name}": ({**BEST[0], **top}, {**BEST[1], **table})
    for name, top, table in (
        ("batch of 32", {}, {"batch_size": 32}),
        ("32, 64, 64 channels", {"size": "flat"}, {}),
        ("24, 48, 96 channels", {"size": "micro"}, {}),
        ("learning rate 2e-3", {}, {"learning_rate": 2e-3}),
        ("no cooldown", {}, {"cooldown": 0.0}),
        ("cooldown all along", {}, {"cooldown": 1.0}),
        ("labels never hidden", {}, {"label_dropout": 0.0}),
    )
}
VARIANTS = {"digits": LOSS, "mnist": {**LOSS, **SPEND}}
BASE: Changes = (
    {"schedule": "linear", "predicts": "eps", "conditional": True},
    {"optimizer": "adamw", "times": "stratified", "weighting": "simple", "learning_rate": 1e-3, "cooldown": 0.3},
)
SIZES, BATCH = {"digits": "tiny", "mnist": "mini"}, 64  # unless a variant says otherwise
NETWORKS: dict[str, dict[str, Any]] = {  # in addition to the sizes that ddim names
    "flat": {**nets.UNet.sizes["mini"], "multipliers": (1, 2, 2)},
}
SECONDS, SPARED = 1500, 0.95  # of MNIST; the rest is for validation and saving
UPDATE = {  # seconds per update of MNIST on two idle cores, by size and batch: medians of 12, alternating
    ("mini", 64): 0.419,
    ("mini", 32): 0.225,
    ("micro", 64): 0.295,
    ("flat", 64): 0.308,
}
DIGITS = 1800  # updates of digits


def recipe(data: str, name: str) -> Recipe:
    """Return the recipe of a variant, with its number of updates."""
    (top, table), (changed, planned) = BASE, VARIANTS[data][name]
    base = replace(recipes.shipped(data), **{"size": SIZES[data], **top, **changed})
    plan = replace(base.plan, epochs=None, minutes=None, **{"batch_size": BATCH, **table, **planned})
    return replace(base, plan=replace(plan, steps=updates(data, base.size, plan)))


def updates(data: str, size: str, plan: Plan) -> int:
    """Return the number of updates that is equal compute."""
    return DIGITS if data == "digits" else int(SPARED * SECONDS / UPDATE[size, plan.batch_size])


def score(data: str, samples: Tensor) -> list[float]:
    """Return the Fréchet distance of (N, C, H, W) uint8 samples to real images, and for MNIST the accuracy.

    On MNIST the reference is the test images, in the features of judge.py. On digits the 64 pixels of an image are
    its features, and the reference is all images, training and held-out, because there are so few.
    """
    if data == "mnist":
        found = judge.score(samples, torch.arange(len(samples)) % 10)
        return [round(found[key], 4) for key in ("frechet", "agreement")]  # type: ignore[call-overload]
    both = (open_images(data, split=split) for split in ("train", "test"))
    real = np.concatenate([images.batch(torch.arange(len(images)))[0].flatten(1).numpy() for images in both])
    return [round(frechet(gaussian((samples.double() / 127.5 - 1).flatten(1).numpy()), gaussian(real)), 4)]


def work(data: str, name: str, device: str | None) -> dict[str, Any]:
    """Train a variant, and measure each of its averages and its latest weights."""
    chosen, run = recipe(data, name), RUNS / data / name.replace(" ", "-").replace(",", "")
    began = time.perf_counter()
    train(chosen, run, device=device, resume=True)
    facts: dict[str, Any] = {"updates": chosen.plan.steps, "seconds": round(time.perf_counter() - began)}
    facts["held_out"] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["held_out"]
    tensors, _ = checkpoints.read(run, checkpoints.newest(run))
    for kind in (*(f"{width:g}" for width in chosen.plan.ema), "raw"):
        model = load(run).to(device or "cpu")
        model.network.load_state_dict({key: tensors[f"{kind}/{key}"] for key in model.network.state_dict()})
        for S in STEPS:
            samples = to_uint8(model.sample(COUNT, steps=S, sampler="ddim", batch_size=250, progress=False))
            facts[f"{kind}, {S} steps"] = score(data, samples)
    return facts


def table(data: str, rows: dict[str, Any]) -> str:
    """Return the results of the average that a run saves as its model, in Markdown."""
    images = open_images(data)
    columns = [f"distance, {S} steps" for S in STEPS]
    columns += [f"accuracy, {S} steps" for S in STEPS] if data == "mnist" else []
    lines = [
        f"| {data} | GFLOP a call | updates | held-out loss | {' | '.join(columns)} |",
        "|---|--:|--:|--:" + "|--:" * len(columns) + "|",
    ]
    for name, row in rows.items():
        found = [row[f"0.1, {S} steps"] for S in STEPS]
        cells = [f"{one[0]:.3g}" for one in found] + [f"{one[1]:.1%}" for one in found if len(one) > 1]
        cost = gflop(build(recipe(data, name), images).network, images.shape)
        lines.append(f"| {name} | {cost:.2g} | {row['updates']} | {row['held_out']:.5f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train and measure the missing variants, each in its own process, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=VARIANTS)
    parser.add_argument("--jobs", type=int, default=1, help="number of simultaneous trainings")
    parser.add_argument("--device", help="cpu, cuda or mps")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these variants")
    parser.add_argument("--variant", help=argparse.SUPPRESS)  # the variant that one process trains
    options = parser.parse_args()
    nets.UNet.sizes.update(NETWORKS)
    if options.variant:
        print("result", json.dumps(work(options.data, options.variant, options.device)))
        return
    path = RESULTS / f"recipes-{options.data}.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    here = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.jobs))}
    lock = Lock()

    def one(name: str) -> None:
        words = [sys.executable, __file__, options.data, "--variant", name]
        words += ["--device", options.device] if options.device else []
        done = subprocess.run(words, capture_output=True, text=True, env=here, check=False)
        if done.returncode:
            print(f"{name} failed:\n{done.stderr[-2000:]}", flush=True)
            return
        with lock:
            rows[name] = json.loads(done.stdout.rsplit("result", 1)[1])
            write_text(path, json.dumps(rows, indent=2) + "\n")
        print(name, rows[name], flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, (name for name in options.only or VARIANTS[options.data] if name not in rows)))
    inorder = {variant: rows[variant] for variant in VARIANTS[options.data] if variant in rows}
    write_text(path, json.dumps(inorder, indent=2) + "\n")
    write_text(path.with_suffix(".md"), table(options.data, inorder))


if __name__ == "__main__":
    main()
