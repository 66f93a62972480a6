"""Measure what the presets of the shipped models are worth at few network calls, beside plain solvers and GITS.

    python benchmarks/few_calls.py --tune                # tunes the models first, and writes their presets
    python benchmarks/few_calls.py                       # hours of a CPU; continues where it stopped
    python benchmarks/few_calls.py --draw                # the tables and the figures from the stored results
    python benchmarks/few_calls.py --models mnist --calls 5 --count 100 100 --out FILE.json    # checks that it works

All methods start from the same noise, which tuning has not seen, and make the same number of evaluations of the network
for an image. The distances compare with the held-out images, as `ddim evaluate` does. GITS (arXiv 2405.11326) is as
published: the times are searched by dynamic programming over Euler's local errors, gamma is 1.15, and the solver is
iPNDM or DDIM. The features are kept in runs/benchmarks/few-calls, part by part; the results are results/few-calls.json
and .md, and the figures models/*/few-calls.png. DDIM_DATA names the folder with MNIST and CIFAR-10.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import few_calls_report as report
import harness
import numpy as np
import torch

import ddim
from ddim import model_io, samplers
from ddim.cli.tune import keep, table
from ddim.evaluate import choose
from ddim.evaluate.features import cached_features, features
from ddim.evaluate.frechet import frechet, frechet_error, frechet_excess, gaussian
from ddim.evaluate.intervals import Array, Z, confidence_interval, prediction_interval, wilson
from ddim.evaluate.metrics import LIMITS
from ddim.evaluate.real import labels_for
from ddim.evaluate.scoring import FEW, RESAMPLES, correct, knows
from ddim.files import writing
from ddim.loading import find
from ddim.noise import ImageNoise
from ddim.presets import Method
from ddim.timesteps import timesteps
from ddim.tune import search
from ddim.tune.candidates import Costs, fine_times, plain, shortest, teach

CALLS = (4, 5, 6, 8, 10, 15, 20)
FULL, MANY = (5, 8, 20), (20, 50)  # calls that are measured with more samples; steps of DDIM for the aims
COUNTS = {"mnist": (2_000, 1_000), "airplanes": (2_000, 1_000)}  # samples there, and elsewhere
AIMED = {"mnist": 10_000, "airplanes": 2_000}  # samples that decide whether an aim is reached
PART = 500  # images in a file
SEED = 1  # tuning has seed 0
GAMMA, GRID, NOISES = 1.15, 60, 32  # of GITS: weight of later errors, times of the grid, noises of the teacher
DRAWS = 5  # of real images


class Point(NamedTuple):
    """A method at a number of evaluations of the network."""

    kind: str  # one of report.KINDS
    calls: int
    method: Method


class Samples(NamedTuple):
    """What is known of a method's samples."""

    features: Array  # (N, F)
    correct: Any  # (N,) bool, whether each is of the requested class; None without a classifier


class Measurement:
    """One model, its samples and the real images that these are compared with."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.model = ddim.load(name, backend=options.backend, precision=options.precision)
        self.held_out, self.train = (ddim.open_images(name, split=split) for split in ("test", "train"))
        self.counts = options.count or COUNTS[name]
        self.aimed = max(options.count) if options.count else AIMED[name]
        self.spacings = options.spacings
        self.calls = [n for n in options.calls if n in {preset.calls for preset in self.model.presets}]
        if not self.calls:
            raise SystemExit(f"{name} has no presets of {options.calls} calls; tune it first, with --tune.")
        self.extractor = choose(self.held_out.shape, self.held_out.name)
        self.labels, _ = labels_for(self.model, self.held_out, max(*self.counts, self.aimed))
        self.real = features(self.extractor, self.held_out)
        self.resamples = RESAMPLES[self.real.shape[1] <= FEW]
        self.folder = options.scratch / f"{name}-{model_io.fingerprint(find(name))[:12]}"
        self.backend = f"{options.backend}-{options.precision}"

    def count(self, calls: int) -> int:
        """Return the number of samples at so many calls."""
        return int(self.counts[calls not in FULL])

    def points(self, kinds: Sequence[str]) -> Iterator[Point]:
        """Yield the methods of some kinds, those with more samples first."""
        gits = any(kind.startswith("gits") for kind in kinds)
        yield from (point for point in self._all_points(gits) if point.kind in kinds)

    def _all_points(self, gits: bool) -> Iterator[Point]:
        schedule, presets = self.model.schedule, {preset.calls: preset for preset in self.model.presets}
        for n in sorted(self.calls, key=lambda one: (one not in FULL, one)):
            preset, solvers = presets[n], {method.found: method for method in plain(schedule, n)}
            yield Point("preset", n, Method(**{name: getattr(preset, name) for name in Method.__dataclass_fields__}))
            yield Point("plain", n, solvers[preset.best_plain])
            for found in dict.fromkeys((preset.best_ddim, *(f"ddim, {spacing}" for spacing in self.spacings))):
                yield Point("ddim", n, solvers[found])
        best = presets[max(self.calls)].best_ddim
        for n in MANY:
            if n not in self.calls:
                for spacing in dict.fromkeys((best.split(", ")[1], "trailing", *self.spacings)):  # best at few, at many
                    times = tuple(map(float, timesteps(schedule, n, spacing)[:-1]))
                    yield Point("ddim", n, Method(sampler="ddim", times=times, found=f"ddim, {spacing}"))
        for n, times in self._gits() if gits else ():
            for solver in ("ipndm", "ddim"):
                yield Point(f"gits-{solver}", n, Method(sampler=solver, times=times, found=f"{solver}, times of GITS"))

    @torch.no_grad()
    def _gits(self) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Yield the times of GITS for each number of calls."""
        model, schedule = self.model, self.model.schedule
        start = ImageNoise(0, range(NOISES))(torch.empty(NOISES, *model.shape))
        labels = None if model.classes is None else torch.arange(NOISES) % model.classes
        fine = fine_times(schedule, GRID)
        taught = teach(model.denoise(labels), start, schedule, samplers.get("ddim"), fine, parts=1)
        costs = Costs(taught, schedule)["ddim"]
        for n in self.calls:
            yield n, tuple(float(taught.levels[i].t) for i in shortest(costs, n, GAMMA)[:-1])

    def samples(self, point: Point, count: int) -> Samples:
        """Return what is known of samples; the parts that were drawn before are read."""
        method, parts = point.method, []
        key = json.dumps([{**vars(method), "options": dict(method.options), "found": ""}, self.backend], default=str)
        place = self.folder / f"{point.calls}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        for first in range(0, count, PART):
            rows = slice(first, min(first + PART, count))
            path = place / f"{rows.start:06d}-{rows.stop:06d}.npz"
            if not path.exists():
                began = time.time()
                part = self._drawn(method, rows)
                known = {} if part.correct is None else {"correct": part.correct}
                with writing(path) as draft, draft.open("wb") as file:
                    np.savez(file, features=part.features, **known)
                said = f"{point.kind}, {point.calls} calls: {rows.stop:,} of {count:,} in {time.time() - began:.0f} s"
                print(said, file=sys.stderr, flush=True)
            with np.load(path) as file:
                parts.append(Samples(file["features"], file.get("correct")))
        known = parts[0].correct is not None
        right = np.concatenate([part.correct for part in parts]) if known else None
        return Samples(np.concatenate([part.features for part in parts]), right)

    def _drawn(self, method: Method, rows: slice) -> Samples:
        labels = None if self.labels is None else self.labels[rows]
        pixels = self.model.sample(
            rows.stop - rows.start,
            sampler=method.create(),
            spacing=method.times,
            guidance=method.guidance,
            guidance_interval=method.guidance_interval,
            labels=labels,
            seed=SEED,
            first=rows.start,
            progress=False,
            pixels=True,
        )
        names, right = self.held_out.classes, None
        if labels is not None and knows(self.extractor, names):
            right = correct(self.extractor, pixels, labels, names).numpy()
        return Samples(features(self.extractor, pixels), right)

    def row(self, point: Point) -> dict[str, Any]:
        """Return the distance and the accuracy of a point, with their intervals."""
        count = self.count(point.calls)
        found = self.samples(point, count)
        row: dict[str, Any] = {"kind": point.kind, "calls": point.calls, "method": point.method.text(), "count": count}
        row["distance"] = self._distance(found.features)
        least = min(filter(None, self.counts))  # fewer samples have larger distances: the figure compares equally many
        row["alike"] = row["distance"] if least == count else self._distance(found.features[:least])
        if found.correct is not None:
            share = float(found.correct.mean())
            row["accuracy"] = (share, *wilson(share, count))
        return row

    def _distance(self, x: Array) -> tuple[float, float, float]:
        value, error = frechet(gaussian(x), gaussian(self.real)), frechet_error(x, self.real, self.resamples, SEED)
        return value, *confidence_interval(value, error, LIMITS["frechet"])

    def excess(self, one: Point, other: Point) -> dict[str, Any]:
        """Return by how much the distance of one point exceeds that of another, from the same noise."""
        a, b = (self.samples(point, self.aimed).features for point in (one, other))
        found = frechet_excess(a, b, self.real, self.resamples, SEED)
        ends = (found.value - Z * found.error, found.value + Z * found.error)
        return {"count": self.aimed, "excess": (found.value, *ends)}

    def floor(self, count: int) -> tuple[float, float, float]:
        """Return the distance of so many training images, a mean over draws, and the interval of one more draw."""
        pool = cached_features(self.extractor, self.train)
        random = np.random.default_rng(SEED)
        draws = [pool[random.permutation(len(pool))[:count]] for _ in range(DRAWS)]
        values = [frechet(gaussian(draw), gaussian(self.real)) for draw in draws]
        mean, ends = prediction_interval(values, LIMITS["frechet"], count / len(pool))
        return mean, *ends


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured of one model."""
    began, here = time.time(), Measurement(name, options)
    rows, points = dict[tuple[str, int], dict[str, Any]](), dict[tuple[str, int], Point]()
    for point in here.points(options.kinds):
        key = (point.kind, point.calls)
        if here.count(point.calls):
            row = here.row(point)
            if key not in rows or row["distance"] < rows[key]["distance"]:  # DDIM on several spacings: the best
                rows[key], points[key] = row, point
    aims = {}
    for calls, many in report.AIMS:
        pair = points.get(("preset", calls)), points.get(("ddim", many))
        if pair[0] is not None and pair[1] is not None:
            aims[f"{calls} against {many}"] = here.excess(*pair)
    return {
        "rows": list(rows.values()),
        "aims": aims,
        "floors": {str(count): here.floor(count) for count in sorted({row["count"] for row in rows.values()})},
        "real": len(here.held_out),
        "extractor": here.extractor.name,
        "backend": here.model.backend,
        "minutes": round((time.time() - began) / 60, 1),
    }


def tune(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Tune a model for the numbers of calls that it has no preset for; write the presets, and return the seconds."""
    model = ddim.load(name, backend=options.backend, precision=options.precision)
    held_out = ddim.open_images(name, split="test")
    missing = [n for n in options.calls if n not in {preset.calls for preset in model.presets}]
    seconds, began, verdicts = {}, time.time(), []
    for verdict in search(model, missing, images=held_out, count=options.tune) if missing else ():
        calls = verdict.preset.calls
        keep(find(name), [verdict.preset])
        seconds[str(calls)], began = round(time.time() - began, 1), time.time()
        verdicts.append(verdict)
        print(f"{name}, {calls} calls, in {seconds[str(calls)]:.0f} s", *table([verdict]), sep="\n", flush=True)
    if verdicts:
        print(name, *table(verdicts), sep="\n", flush=True)
    return seconds


def main() -> None:
    """Tune if asked to, measure, write the results and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--calls", nargs="+", type=int, default=list(CALLS))
    parser.add_argument(
        "--count", nargs=2, type=int, metavar=("MORE", "LESS"), help=f"samples at {FULL}, and elsewhere"
    )
    parser.add_argument("--kinds", nargs="+", choices=report.KINDS, default=list(report.KINDS), help="of methods")
    parser.add_argument("--spacings", nargs="*", default=[], help="of DDIM, beside the one that tuning named")
    parser.add_argument("--tune", nargs="?", type=int, const=300, metavar="SAMPLES", help="tune first, and no more")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks/few-calls"), help="folder for features")
    parser.add_argument("--out", type=Path, default=report.RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    models = found.setdefault("models", {})
    for name in [] if options.draw else options.models:  # the other models keep their stored results
        one = models.setdefault(name, {})
        if options.tune:
            one["tuning"] = {**one.get("tuning", {}), **tune(name, options)}
        else:
            known = {(row["kind"], row["calls"]): row for row in one.get("rows", [])}
            new = measure(name, options)
            known |= {(row["kind"], row["calls"]): row for row in new["rows"]}
            kept = {part: {**one.get(part, {}), **new[part]} for part in ("aims", "floors")}
            one |= {**new, "rows": list(known.values()), **kept}  # rows of other kinds and calls stay
        found["machine"] = harness.machine()
        harness.save(found, report.tables(found), options.out)
    if options.draw:
        harness.save(found, report.tables(found), options.out)
    if options.out == report.RESULT and not options.tune:
        report.show(found)


if __name__ == "__main__":
    main()
