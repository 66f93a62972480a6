"""Measure what each ingredient against overfitting is worth when there are few images, at equal compute.

    python benchmarks/few_images.py                          # hours of a CPU; continues where it stopped
    python benchmarks/few_images.py --data digits-1000 --seeds 0 1 2
    python benchmarks/few_images.py --draw                   # the tables and the figure from what is stored
    python benchmarks/few_images.py --data digits-300 --updates 60 --count 200 --out FILE.json  # checks that it works

The data are the first 300, 1,000 and 5,000 digits of MNIST at 14 x 14 pixels, equally many of each, and the 5,000
airplanes of CIFAR-10 at 16 x 16. Of the digits one in 20 is held out, as of a folder, for what training measures by
itself. Each variant changes the recipe of MNIST, on a network with half the channels of "folded", and makes equally
many updates of 64 images. From each run come two models: the average of width 0.1 after the last update, and the one
that `ddim train` keeps by itself, see `ddim.train.best`. Their samples are compared with the official test images as by
`ddim evaluate`, and searched for copies of training images. The runs stay in runs/benchmarks/few-images; the results
are results/few-images.json and .md, docs/few-images.md and docs/images/few-images.png. DDIM_DATA names the folder with
MNIST and CIFAR-10.
"""

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import few_images_report as report
import harness
import torch
from torch import Tensor

import ddim
from ddim import nets
from ddim.data.images import Images, register
from ddim.denoiser import Denoiser
from ddim.evaluate import copies, measure
from ddim.train import Plan, Recipe, checkpoints, train
from ddim.train.choice import AUGMENT, DROPOUT, SETTINGS
from ddim.validation import Validation

RUNS = Path("runs/benchmarks/few-images")
SIZE, SIDES = "folded, 32 channels", {"mnist": 14, "airplanes": 16}
DIGITS = (300, 1_000, 5_000)
DATA = {**{f"digits-{count}": "mnist" for count in DIGITS}, "airplanes": "airplanes"}  # name -> where it comes from
HELD_OUT = 20  # one image in so many, as of a folder
PLAIN: dict[str, Any] = {"dropout": 0.0, "weighting": "clipped", "times": "stratified"}  # as in the recipe of MNIST
EDM: dict[str, Any] = {"weighting": "edm", "times": "lognormal"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "dropout": {**PLAIN, "dropout": DROPOUT},
    "augmentation": {**PLAIN, "augment": AUGMENT},
    "log-normal times": {**PLAIN, **EDM},
    "cosine schedule, min-SNR": {**PLAIN, "schedule": "cosine", "weighting": "min-snr"},
    "dropout and augmentation": {**PLAIN, "dropout": DROPOUT, "augment": AUGMENT},
    "all together": {**EDM, "dropout": DROPOUT, "augment": AUGMENT},
}
UPDATES, BATCH, COUNT, STEPS = 6_000, 64, 2_000, 20
SEED = 1  # of the samples


def digits(count: int, split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """Return the first `count` digits, equally many of each, without those of the other split."""
    images = ddim.open_images("mnist", size=SIDES["mnist"], data_dir=data_dir, url=url)
    rows = torch.cat([(images.labels == label).nonzero()[: count // 10, 0] for label in range(10)])
    held_out = torch.arange(count) % HELD_OUT == 0
    rows = rows[held_out if split == "test" else ~held_out]
    return replace(images, pixels=images.pixels[rows], labels=images.labels[rows], name=f"digits-{count}", split=split)


for _count in DIGITS:
    register(f"digits-{_count}")(partial(digits, _count))
nets.UNet.sizes[SIZE] = {**nets.sizes("unet")["folded"], "width": 32}


def recipe(data: str, variant: str, seed: int, updates: int) -> Recipe:
    """Return the recipe of a run."""
    changes = {**SETTINGS, **VARIANTS[variant]}
    plan = {name: value for name, value in changes.items() if hasattr(Plan, name)}
    rest = {name: value for name, value in changes.items() if name not in plan}
    known = {"size": SIZE, "conditional": data != "airplanes", "image_size": SIDES.get(data)}
    return Recipe(
        data=data, network="unet", **known, **rest, plan=Plan(steps=updates, batch_size=BATCH, seed=seed, **plan)
    )


def folder(data: str, variant: str, seed: int = 0, updates: int = UPDATES) -> Path:
    """Return the folder of a run."""
    return RUNS / f"{data}-{variant.replace(' ', '-')}-{seed}-{updates}"


def training_images(data: str) -> Images:
    """Return the images that the runs of a data set are trained on."""
    return ddim.open_images(data, size=SIDES.get(data))


def work(data: str, variant: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train a run, and measure its two models."""
    run = folder(data, variant, seed, options.updates)
    train(recipe(data, variant, seed, options.updates), run, resume=True, validate=Validation)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = ("step", "frechet", "kid", "copies", "copies_p", "nearer")
    curve = [{key: line[key] for key in keys if key in line} for line in lines if "copies" in line]
    found: dict[str, Any] = {"updates": options.updates, "count": options.count, "curve": curve}
    found["average"] = config.get("average")
    for kind, step in (("last", checkpoints.newest(run)), ("kept", None)):
        if kind == "kept" and config.get("average") is None:
            found[kind] = found["last"]
        else:
            found[kind] = score(ddim.load(run, checkpoint=step, backend="torch"), data, options.count)
    return found


def score(model: Denoiser, data: str, count: int) -> dict[str, Any]:
    """Return the metrics of a model's samples, of all classes in turn."""
    pixels = model.sample(count, steps=STEPS, seed=SEED, progress=False, pixels=True)
    return {**metrics(pixels, data), "sampler": model.describe_sampling(steps=STEPS)}


def metrics(pixels: Tensor, data: str) -> dict[str, Any]:
    """Return the metrics of (N, C, H, W) uint8 images and the copies of training images among them."""
    source = DATA[data]
    test, rest = (ddim.open_images(source, size=SIDES[source], split=split) for split in ("test", "train"))
    found = measure(pixels, test, real=rest, progress=False)
    same = copies(pixels, training_images(data), test, progress=False)
    count, keys = len(pixels), ("frechet", "recall", "precision", "coverage")
    return {
        **{key: found.to_dict()["metrics"][key] for key in keys},
        "copies": same.flagged / count,
        "expected": same.expected / count,
        "p": same.p_value,
        "nearer": same.nearer,
    }


def main() -> None:
    """Train and measure what is missing, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=report.RESULT)
    options = parser.parse_args()

    def stored() -> dict[str, Any]:
        return json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"rows": []}

    wanted = [(data, variant, seed) for data in options.data for seed in options.seeds for variant in options.variants]
    for data, variant, seed in [] if options.draw else wanted:
        key = {"data": data, "variant": variant, "seed": seed}
        if not any(key.items() <= row.items() for row in stored()["rows"]):
            row = key | work(data, variant, seed, options)
            found = stored()  # another process may have added rows
            if data not in found.setdefault("training", {}):
                drawn = torch.randint(len(training_images(data)), (options.count,), generator=torch.manual_seed(SEED))
                found["training"][data] = metrics(training_images(data).pixels[drawn], data)
            found["rows"].append(row)
            found["machine"] = harness.machine()
            harness.save(found, report.table(found), options.out)
            print(f"{data}, {variant}, seed {seed}: done", file=sys.stderr, flush=True)
    if options.draw:
        harness.save(stored(), report.table(stored()), options.out)
    if options.out == report.RESULT:
        report.show(stored(), {data: (training_images(data), partial(folder, data)) for data in options.data})


if __name__ == "__main__":
    main()
