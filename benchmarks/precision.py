"""Measure what a faster backend changes in the images of the shipped models: pixels, and the Fréchet distance.

    python benchmarks/precision.py                                   # hours of a CPU; continues where it stopped
    python benchmarks/precision.py --models mnist --count 100 --rms-count 4 --out FILE.json   # checks that it works

The reference is the network in PyTorch and fp32. The backend that ddim chooses itself, in bf16 where the processor is
made for it, draws the same images from the same noise. `rms` is the root mean square of their differences, in images
from -1 to 1. The Fréchet distance compares the images of both with the real held-out images, as `ddim evaluate` does.
The images are kept in runs/benchmarks/precision, part by part; the results are results/precision.json and .md.
DDIM_DATA names the folder with MNIST and CIFAR-10.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch

import ddim
from ddim import model_io
from ddim.denoiser import Denoiser
from ddim.evaluate import choose
from ddim.evaluate.features import features
from ddim.evaluate.frechet import frechet, frechet_error, frechet_excess, gaussian
from ddim.evaluate.intervals import Array, Z, confidence_interval
from ddim.evaluate.metrics import LIMITS
from ddim.evaluate.real import labels_for
from ddim.evaluate.scoring import FEW, RESAMPLES, check_counts
from ddim.files import writing
from ddim.loading import find
from ddim.plots.numbers import power

RESULT = Path(__file__).with_name("results") / "precision.json"
COUNTS = {"mnist": 10_000, "airplanes": 2_000}
STEPS = (10, 20, 50)
PART = 500  # images in a file
SEED = 0


def differences(reference: Denoiser, model: Denoiser, count: int) -> list[dict[str, Any]]:
    """Return how far the images of a model are from those of the reference, for each number of steps."""
    rows = []
    for steps in STEPS:
        options: dict[str, Any] = {"steps": steps, "sampler": model.sampling.sampler, "seed": SEED}  # no preset
        expected = reference.sample(count, **options)
        difference = model.sample(count, **options) - expected
        rms = difference.square().mean(dim=(1, 2, 3)).sqrt()
        rows.append(
            {
                "steps": steps,
                "by": model.backend,
                "rms": float(difference.square().mean().sqrt()),
                "largest_rms_of_an_image": float(rms.max()),
                "largest_of_a_pixel": float(difference.abs().max()),
            }
        )
    return rows


def drawn(model: Denoiser, labels: torch.Tensor | None, count: int, folder: Path) -> tuple[torch.Tensor, list[str]]:
    """Return images as pixels, and what drew them; the parts that the folder has are read from it."""
    images, by = [], set()
    for first in range(0, count, PART):
        rows = slice(first, min(first + PART, count))
        path = folder / f"{rows.start:06d}-{rows.stop:06d}.npz"
        if not path.exists():
            part = None if labels is None else labels[rows]
            options: dict[str, Any] = {"sampler": model.sampling.sampler, "seed": SEED, "first": first}  # no preset
            pixels = model.sample(rows.stop - rows.start, labels=part, pixels=True, **options)
            with writing(path) as draft, draft.open("wb") as file:
                np.savez(file, pixels=pixels.numpy(), by=model.backend)
            print(f"{rows.stop:,} of {count:,} images in {folder}", file=sys.stderr, flush=True)
        with np.load(path) as file:
            images.append(torch.from_numpy(file["pixels"]))
            by.add(str(file["by"]))
    return torch.cat(images), sorted(by)


def distance(x: Array, real: Array) -> dict[str, float]:
    """Return the Fréchet distance with its 95% interval."""
    value = frechet(gaussian(x), gaussian(real))
    error = frechet_error(x, real, RESAMPLES[real.shape[1] <= FEW], SEED)
    low, high = confidence_interval(value, error, LIMITS["frechet"])
    return {"value": value, "low": low, "high": high}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the differences of images and the distances for one model."""
    models = {
        "fp32": ddim.load(name, backend="torch"),
        "auto": ddim.load(name, backend=options.backend, precision=options.precision),
    }
    held_out, count = ddim.open_images(name, split="test"), options.count or COUNTS[name]
    extractor = choose(held_out.shape, held_out.name)
    check_counts(extractor, count, len(held_out))
    labels, _ = labels_for(models["fp32"], held_out, count)
    rows = differences(models["fp32"], models["auto"], options.rms_count)
    folder = options.scratch / f"{name}-{model_io.fingerprint(find(name))[:12]}"
    seen, by = {}, {}
    for key, model in models.items():
        kept = folder / (key if key == "fp32" else f"{options.backend}-{options.precision}")
        pixels, by[key] = drawn(model, labels, count, kept)
        seen[key] = features(extractor, pixels)
    real = features(extractor, held_out)
    distances = {key: distance(x, real) for key, x in seen.items()}
    excess = frechet_excess(seen["auto"], seen["fp32"], real, RESAMPLES[real.shape[1] <= FEW], SEED)
    return {
        "count": count,
        "real": len(held_out),
        "extractor": extractor.name,
        "sampling": models["fp32"].sampling.describe(),
        "rms_count": options.rms_count,
        "differences": rows,
        "by": by,
        "distances": distances,
        "excess": {
            "value": excess.value,
            "low": excess.value - Z * excess.error,
            "high": excess.value + Z * excess.error,
        },
    }


def suffers(model: dict[str, Any]) -> str:
    """Return whether the distance of auto is above the interval of the reference."""
    auto, reference, excess = model["distances"]["auto"], model["distances"]["fp32"], model["excess"]
    inside = "within" if reference["low"] <= auto["value"] <= reference["high"] else "outside"
    if inside == "outside":
        inside = "above" if auto["value"] > reference["high"] else "below"
    paired = "larger" if excess["low"] > 0 else "smaller" if excess["high"] < 0 else "not measurably different"
    return f"The distance of auto is {inside} the interval of fp32; image by image it is {paired}."


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [
        "| model | steps | by | rms to fp32 | of the worst image | largest of a pixel |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for name, model in found["models"].items():
        for row in model["differences"]:
            numbers = (row["rms"], row["largest_rms_of_an_image"], row["largest_of_a_pixel"])
            words = " | ".join(power(number) if number < 1e-3 else f"{number:.4f}" for number in numbers)
            lines.append(f"| {name} | {row['steps']} | {row['by']} | {words} |")
    lines += [
        "",
        "| model | samples | by | Fréchet distance | 95% interval | more than fp32 |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for name, model in found["models"].items():
        for key, one in model["distances"].items():
            excess, more = model["excess"], ""
            if key == "auto":
                more = f"{excess['value']:+.3f} ({excess['low']:+.3f} to {excess['high']:+.3f})"
            span = f"{one['low']:.3f} to {one['high']:.3f}"
            by = ", ".join(model["by"][key])
            lines.append(f"| {name} | {model['count']:,} | {by} | {one['value']:.3f} | {span} | {more} |")
    lines += ["", *(f"- {name}: {suffers(model)}" for name, model in found["models"].items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--count", type=int, help="samples; none: 10,000 digits, 2,000 aeroplanes")
    parser.add_argument("--rms-count", type=int, default=64, help="images whose differences are measured")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks/precision"), help="folder for the images")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    models = found.get("models", {})
    for name in options.models:  # the other models keep their stored results
        began = time.time()
        models[name] = measure(name, options)
        models[name]["minutes"] = round((time.time() - began) / 60, 1)
        found = {"models": models, "machine": harness.machine()}
        harness.save(found, table(found), options.out)
    if options.out == RESULT:
        harness.fill("docs/speed.md", "precision.py", table(found))


if __name__ == "__main__":
    main()
