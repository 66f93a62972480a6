"""Measure how near each method of restoration comes to the original images, beside azula's methods.

    python benchmarks/restoration.py                       # hours of a CPU; continues where it stopped
    python benchmarks/restoration.py --draw                # the tables from the samples that are there
    python benchmarks/restoration.py --count 2 2 --calls 5 --scratch DIR --out FILE.json     # checks that it works

One sample of each held-out image is drawn for each operator, method and number of network calls, with DDIM and
eta = 1, on the trailing timesteps and without labels. azula's methods start from the same x_T and continue the same
streams of noise, on the same levels, with x0 clipped in the same way (`peers/azula_posterior.py`). Its DiffPIR with our
lambda gives the same images (tests/edit/test_azula.py), so it is not measured again.

PSNR is 10 log10(4 / mean (x - x_0)^2) for images from -1 to 1, with the 95% interval over images. The Fréchet distance
is that to all held-out images, in the features that `ddim evaluate` takes; its baseline is the distance of the
originals of the restored images, which are as many. A call is one evaluation of the network. "pigdm" and "mmps" take
six products with its Jacobian beside each call, each a backward pass, and compute in fp32; the others compute in the
backend and the precision that ddim chooses.

The samples are kept in runs/benchmarks/restoration, part by part. A result whose samples are not there is kept.
DDIM_DATA names the folder with MNIST and CIFAR-10. The results are results/restoration.json and .md, and a part of
docs/editing.md.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import harness
import numpy as np
import restoration_report as report
import torch
from numpy.typing import NDArray
from torch import Tensor

import ddim
from ddim import edit
from ddim.evaluate import choose
from ddim.evaluate.features import cached_features, features
from ddim.evaluate.frechet import frechet, frechet_error, gaussian
from ddim.evaluate.intervals import Mean, confidence_interval
from ddim.evaluate.metrics import LIMITS
from ddim.files import writing
from ddim.guidance import clip_x0
from ddim.noise import ImageNoise
from ddim.pictures import to_uint8
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.timesteps import levels, timesteps

PARTS = {False: 50, True: 25}  # images in a file, without gradients and with them
SEED, MEASUREMENT = 1, 2  # of the samples, and of the noise in the measurements
TIMES = 5  # how often RePaint takes each step
RESAMPLES = 200
PEER = find_spec("azula") is not None
GRADIENTS = ("pigdm", "mmps")
COST = {"mnist": 1, "airplanes": 2.3}  # of a call, relative


class Way(NamedTuple):
    """A method on an operator."""

    operator: str  # a key of `operators`
    noise_std: float
    library: str
    method: str
    times: int = 1  # how often a step is taken


def operators(name: str) -> dict[str, edit.Operator]:
    """Return the operators for the images of a model."""
    side = {"mnist": 28, "airplanes": 32}[name]
    found = {
        "a box of 12 × 12 pixels": edit.Box((side, side), 8, 8, 12, 12),
        "super-resolution 4": edit.SuperResolution(4),
        "blur 1.5": edit.Blur(1.5),
    }
    return found if name == "mnist" else {**found, "grey": edit.Grey()}


def ways(name: str) -> list[Way]:
    """Return all methods on all operators. Without noise DiffPIR is DDNM."""
    found = []
    for operator in operators(name):
        noise_std = 0.1 if operator in ("super-resolution 4", "blur 1.5") else 0.0
        found += [Way(operator, noise_std, "ddim", "ddnm"), Way(operator, noise_std, "ddim", "pigdm")]
        found += [Way(operator, noise_std, "ddim", "diffpir")] if noise_std else []
        if "box" in operator:
            found += [
                Way(operator, noise_std, "ddim", "ddnm", TIMES),
                Way(operator, noise_std, "azula", "repaint", TIMES),
            ]
        found.append(Way(operator, noise_std, "azula", "mmps"))
    return [way for way in found if PEER or way.library == "ddim"]


class Measurement:
    """A model, the images to restore, and where its samples are kept."""

    def __init__(self, name: str, scratch: Path, count: int) -> None:
        self.name, self.scratch = name, scratch / name
        self.fast, self.exact = ddim.load(name), ddim.load(name, backend="torch")
        self.exact.network.requires_grad_(False)
        self.held_out = ddim.open_images(name, split="test")
        self.x0, _ = self.held_out.batch(torch.arange(count))
        self.operators = operators(name)

    def draw(self, way: Way, calls: int, rows: range) -> Tensor:
        """Return one sample of each of some images."""
        operator, x0 = self.operators[way.operator], self.x0[rows.start : rows.stop]
        y = operator.forward(x0)
        y = y + way.noise_std * ImageNoise(MEASUREMENT, rows)(y)
        model = self.exact if way.method in GRADIENTS else self.fast
        served = None if way.method in GRADIENTS else PARTS[False]
        prior = model.denoise(None, clip=False, served=served)
        schedule = model.schedule
        visited, noise = levels(schedule, timesteps(schedule, calls // way.times)), ImageNoise(SEED, rows)
        given = (prior, y, operator, way.noise_std, way.method)
        if way.library == "azula":
            from peers.azula_posterior import restore

            return restore(*given, visited, noise, model.shape, way.times).clamp(-1, 1)
        sampler: Sampler = DDIM(eta=1.0)
        sampler = edit.Resample(sampler, way.times) if way.times > 1 else sampler
        *_, x = trajectory(sampler, clip_x0(edit.posterior(*given)), noise(torch.empty_like(x0)), visited, noise)
        return x.clamp(-1, 1)

    def files(self, way: Way, calls: int, count: int) -> list[tuple[range, Path]]:
        """Return the parts of the samples: the images of each, and its file."""
        place = f"{way.operator}, {way.noise_std}, {way.library} {way.method} {way.times}, {calls}".replace(" ", "-")
        size = PARTS[way.method in GRADIENTS]
        parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
        return [(rows, self.scratch / place / f"{rows.start:03d}-{rows.stop:03d}.npy") for rows in parts]

    @torch.no_grad()
    def complete(self, way: Way, calls: int, count: int) -> None:
        """Draw the parts that are missing."""
        for rows, path in self.files(way, calls, count):
            if not path.exists():
                began, processor = time.time(), time.process_time()
                pixels = to_uint8(self.draw(way, calls, rows)).numpy()
                with writing(path) as draft, draft.open("wb") as file:
                    np.save(file, pixels)
                seconds = f"{time.time() - began:.0f} s, {time.process_time() - processor:.0f} s of the processor"
                print(f"{self.name}, {path.parent.name}, {rows.stop} of {count}, {seconds}", file=sys.stderr)

    def row(self, way: Way, calls: int, count: int) -> dict[str, Any] | None:
        """Return the metrics of the samples; None if some are missing, or if there are none to draw."""
        paths = [path for _, path in self.files(way, calls, count)]
        if not paths or not all(path.exists() for path in paths):
            return None
        pixels, x0 = torch.from_numpy(np.concatenate([np.load(path) for path in paths])), self.x0[:count]
        psnr = Mean.of(10 * torch.log10(4 / (pixels / 127.5 - 1 - x0).square().mean(dim=(1, 2, 3)).clamp(min=1e-9)))
        return {
            **way._asdict(),
            "calls": calls,
            "count": count,
            "psnr": (psnr.mean, psnr.margin),
            "distance": self.distance(pixels),
        }

    def distance(self, pixels: Tensor) -> tuple[float, float, float]:
        """Return the Fréchet distance to all held-out images, with its 95% interval."""
        extractor = choose(self.held_out.shape, self.held_out.name)
        x: NDArray[np.float64] = features(extractor, pixels)
        y = cached_features(extractor, self.held_out)
        value, error = frechet(gaussian(x), gaussian(y)), frechet_error(x, y, RESAMPLES, SEED)
        return value, *confidence_interval(value, error, LIMITS["frechet"])


def _key(row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in (*Way._fields, "calls")]


def main() -> None:
    """Draw what is missing, measure what is there, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mnist", "airplanes"])
    parser.add_argument("--calls", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--count", type=int, nargs=2, default=(200, 50), help="images; for pigdm and mmps (0: neither)")
    parser.add_argument("--draw", action="store_true", help="measure the samples that are there, and draw none")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks/restoration"), help="folder for samples")
    parser.add_argument("--out", type=Path, default=report.RESULT)
    options = parser.parse_args()
    if not PEER:
        print("azula is not installed, so its methods are left out; see requirements.txt.", file=sys.stderr)
    here = {name: Measurement(name, options.scratch, max(options.count)) for name in options.models}
    plan = [
        (calls, way.method in GRADIENTS, name, way) for calls in options.calls for name in here for way in ways(name)
    ]
    plan.sort(key=lambda one: one[0] * (2.4 if one[1] else 1) * COST[one[2]])  # the cheap and telling ones first
    if not options.draw:
        for calls, gradients, name, way in plan:
            here[name].complete(way, calls, options.count[gradients])
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    models, found["machine"] = found.setdefault("models", {}), harness.machine()
    for name, model in here.items():
        rows = [model.row(way, calls, options.count[g]) for calls, g, own, way in plan if own == name]
        new = [row for row in rows if row is not None]
        old = models.get(name, {"rows": [], "backend": None})
        kept = new + [row for row in old["rows"] if _key(row) not in map(_key, new)]
        counts = sorted({row["count"] for row in kept})
        models[name] = {
            "rows": kept,
            "originals": {str(n): model.distance(to_uint8(model.x0[:n])) for n in counts},
            "backend": old["backend"] if options.draw else model.fast.backend,
            "extractor": choose(model.held_out.shape, model.held_out.name).name,
        }
    harness.save(found, report.tables(found), options.out)
    if options.out == report.RESULT:
        harness.fill("docs/editing.md", "restoration.py", report.tables(found))


if __name__ == "__main__":
    main()
