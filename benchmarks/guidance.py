"""Measure what guidance by the null class or by a weak model does to quality and to copying.

    python benchmarks/guidance.py runs/mnist --weak runs/mnist:470 runs/mnist:1911
    python benchmarks/guidance.py airplanes --weak runs/airplanes --weights 1.5 2     # another run as the weak model
    python benchmarks/guidance.py runs/mnist --weak runs/mnist:470 --count 200 --out FILE.json    # checks that it works

All rows start from the same noise and use the model's default solver. Guidance acts at all levels, or in an interval of
sigma / alpha. A guided step evaluates two networks, so the model alone is measured twice: with equally many steps, and
with equally many evaluations. Each row has the Fréchet
distance, recall and accuracy of `ddim evaluate`, and the copies of training images that it finds. A weak model is a
run, or one of its checkpoints, RUN:STEP. Rows that were measured before are kept; the results are
results/guidance.json and .md. DDIM_DATA names the folder with the data.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness
import torch

import ddim
from ddim import model_io
from ddim.denoiser import Denoiser
from ddim.evaluate import copies, measure
from ddim.evaluate.evaluation import METRICS
from ddim.evaluate.real import labels_for
from ddim.guidance import EVERYWHERE, Interval
from ddim.loading import find

RESULT = Path(__file__).with_name("results") / "guidance.json"
SEED = 1


class Setting(NamedTuple):
    """How the samples of a row are drawn."""

    steps: int
    weight: float = 1.0
    weak: str | None = None  # None with another weight is guidance by the null class
    interval: Interval = EVERYWHERE

    def text(self) -> str:
        """Return the setting as a cell of the table."""
        if self.weight == 1:
            return "none"
        kind = "null class" if self.weak is None else f"weak model {Path(self.weak).name}"
        limits = "" if self.interval == EVERYWHERE else f", {self.interval[0]:g} to {self.interval[1]:g}"
        return f"{kind}, {self.weight:g}{limits}"


def settings(model: Denoiser, options: argparse.Namespace) -> Iterator[Setting]:
    """Yield the settings of a model: alone, guided by the null class if it has one, and by each weak model."""
    yield Setting(options.steps)
    yield Setting(2 * options.steps)
    null_class = [None] if model.classes is not None and model.null_class else []
    for weak in (*null_class, *options.weak):
        for interval in (EVERYWHERE, tuple(options.interval)):
            for weight in options.weights:
                yield Setting(options.steps, weight, weak, interval)


def opened(name: str) -> Denoiser:
    """Load a run, or the checkpoint of RUN:STEP."""
    run, _, step = name.partition(":")
    return ddim.load(run, checkpoint=int(step)) if step else ddim.load(run)


def row(model: Denoiser, data: str, setting: Setting, count: int) -> dict[str, Any]:
    """Draw the samples of a setting and measure them against a data set."""
    train, held_out = (ddim.open_images(data, split=split) for split in ("train", "test"))
    labels, _ = labels_for(model, held_out, count)
    began = time.time()
    guided: dict[str, Any] = {}
    if setting.weight != 1:
        weak = None if setting.weak is None else opened(setting.weak)
        guided = {"guidance": setting.weight, "guidance_interval": setting.interval, "weak": weak}
    pixels = model.sample(
        count,
        steps=setting.steps,
        sampler=model.sampling.sampler,
        labels=labels,
        seed=SEED,
        progress=False,
        pixels=True,
        **guided,
    )
    seconds = time.time() - began
    found = measure(pixels, held_out, real=train, labels=labels, progress=False)
    same = copies(pixels, train, held_out, progress=False)
    return {
        **setting._asdict(),
        "text": setting.text(),
        "count": count,
        "seconds": round(seconds, 1),
        "metrics": found.to_dict()["metrics"],
        "copies": {"flagged": same.flagged, "expected": same.expected, "p": same.p_value},
        "nearer": (same.nearer, same.nearer_low, same.nearer_high),
    }


def table(found: dict[str, Any]) -> str:
    """Return the tables of all models as Markdown."""
    lines = []
    for name, one in found["models"].items():
        kinds = [kind for kind in ("frechet", "recall", "accuracy") if kind in one["rows"][0]["metrics"]]
        titles = " | ".join(METRICS[kind] for kind in kinds)
        lines += [
            f"`{name}`, {one['rows'][0]['count']:,} samples for each row.",
            "",
            f"| guidance, weight, sigma / alpha | steps | {titles} | copies (expected) | nearer to training |",
            f"|---|--:|{'--:|' * len(kinds)}--:|--:|",
        ]
        for entry in one["rows"]:
            cells = [_cell(entry["metrics"][kind], kind) for kind in kinds]
            same = entry["copies"]
            cells += [f"{same['flagged']} ({same['expected']:.1f})", f"{entry['nearer'][0]:.1%}"]
            lines.append(f"| {entry['text']} | {entry['steps']} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(metric: dict[str, Any], kind: str) -> str:
    value, low, high = metric["value"], metric["low"], metric["high"]
    half = max(value - low, high - value)
    return f"{value:.1%} ± {half:.1%}" if kind == "accuracy" else f"{value:.2f} ± {half:.2f}"


def main() -> None:
    """Measure the rows that are missing, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, or a model that comes with ddim")
    parser.add_argument("--weak", nargs="*", default=[], metavar="RUN[:STEP]", help="weak models")
    parser.add_argument("--weights", nargs="+", type=float, default=[1.25, 1.5, 2.0])
    parser.add_argument("--interval", nargs=2, type=float, default=[0.3, 5.0], metavar=("LOW", "HIGH"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    models, name = found.setdefault("models", {}), Path(options.model).name
    model, weights = opened(options.model), model_io.fingerprint(find(options.model))
    data = json.loads((find(options.model) / "config.json").read_text(encoding="utf-8"))["recipe"]["data"]
    kept = models.get(name, {})
    known = kept.get("rows", []) if kept.get("weights") == weights else []
    rows = []
    for setting in settings(model, options):
        key = json.loads(json.dumps({**setting._asdict(), "count": options.count}))
        same = [one for one in known if all(one[field] == value for field, value in key.items())]
        rows.append(same[0] if same else row(model, data, setting, options.count))
        rest = [one for one in known if one not in rows]  # of other settings
        models[name] = {"weights": weights, "backend": model.backend, "rows": [*rows, *rest]}
        found["machine"] = harness.machine()
        harness.save(found, table(found), options.out)
        print(f"{setting.text()}, {setting.steps} steps: done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
