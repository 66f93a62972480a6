"""Findings on the length of the training, on the averaged weights and on its speed."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ddim.doctor.base import Diagnosis, register, signed
from ddim.doctor.curve import LEAST, Forecast, fit
from ddim.doctor.losses import rise
from ddim.run_folder import RunFolder
from ddim.text import duration
from ddim.train.state import gamma

WORTH = 0.005  # of the held-out loss: a smaller decrease is not worth a training twice as long
SLOW = 0.3  # share of the time that may be lost: short stretches differ by chance, and by their evaluations


@register("continuing", "Is it worth continuing?")
def continuing(run: RunFolder) -> Diagnosis:
    """Say by how much twice as many updates would lower the held-out loss; see `ddim.doctor.curve`.

    Only lines at the full learning rate are fitted if there are enough of them: the fall of the loss while the rate
    decays ends with the training.
    """
    lines = [line for line in run.metrics if line.get("step", 0) > 0]
    if (risen := rise(run.levels) if run.levels else None) is not None:
        evidence = f"The held-out loss has risen by {risen[1]:.0%} since epoch {run.levels[risen[0]]['epoch']:.3g}."
        return Diagnosis("act", evidence, "Do not continue with these settings.")
    full = [line for line in lines if _share(run, line) <= 1 - _number(run, "cooldown")]
    curve, fitted = None, lines
    for fitted in (full, lines):
        if curve := fit([line["step"] for line in fitted], [line["held_out"] for line in fitted]):
            break
    if curve is None:
        return Diagnosis("not measured", f"A fit needs {LEAST} lines of metrics after the first tenth of the training.")
    more, step = curve.decrease(2), f"{fitted[-1]['step']:,}"
    rate = " at the full learning rate" if len(fitted) < len(lines) else ""
    evidence = (
        f"By a power law above a floor, fitted to {len(fitted)} lines of metrics{rate}, training for twice the "
        f"{step} updates would lower the held-out loss by {_percent(more)}. Most of the loss is a floor that no "
        "network goes below, so a small share of it may be visible in samples."
    )
    if more.high < WORTH:
        advice = "A larger network may gain more than more updates."
        return Diagnosis("fine", f"{evidence} The loss has converged.", advice)
    if more.low > WORTH:
        advice = "Continue: `ddim train RUN --resume` with twice the --epochs, --steps or --minutes."
        return Diagnosis("act", f"{evidence} The loss still falls.", advice)
    return Diagnosis("unclear", f"{evidence} The interval does not decide whether it is worth it.")


@register("average", "The averaged weights")
def average(run: RunFolder) -> Diagnosis:
    """Say how far the average lags behind the training, and what the held-out loss fell by in that time.

    The mean of tau under p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) is t - t / (gamma + 2) (arXiv 2312.02696,
    Eq. 121).
    """
    widths = run.plan.get("ema")
    width = widths[0] if isinstance(widths, list) and widths and isinstance(widths[0], int | float) else None
    if width is None or not 0 <= width <= 0.25:
        return Diagnosis("not measured", "The width of the average is unknown.")
    if width == 0:
        evidence = "The model has the latest weights, whose samples change from update to update."
        return Diagnosis("act", evidence, "Train with --ema 0.1 to average them.")
    lines = [line for line in run.metrics if line.get("step", 0) > 0]
    lag = 1 / (gamma(width) + 2)
    evidence = f"An average of width {width:g} lies {lag:.0%} of the training behind its end."
    if len(lines) < LEAST:
        return Diagnosis("not measured", f"{evidence} What that costs takes {LEAST} lines of metrics.")
    steps, losses = ([float(line[name]) for line in lines] for name in ("step", "held_out"))
    fallen = 1 - losses[-1] / float(np.interp((1 - lag) * steps[-1], steps, losses))
    if fallen <= WORTH:
        evidence += f" The held-out loss has changed by {signed(-fallen)} in that time, so the lag costs little."
        return Diagnosis("fine", evidence)
    evidence += f" The held-out loss still fell by {fallen:.1%} in that time, about what the lag may cost."
    return Diagnosis("unclear", evidence, "Try a narrower average without training: `ddim average RUN`.")


@register("speed", "Images per second")
def speed(run: RunFolder) -> Diagnosis:
    """Say which share of the time was lost in slow stretches, by the lines of metrics."""
    parts = list(_stretches(run))
    if len(parts) < 3:
        return Diagnosis("not measured", "metrics.jsonl does not tell the images per second of three stretches.")
    images, seconds = map(np.array, zip(*parts, strict=True))
    fast = float(np.quantile(images / seconds, 0.9))
    lost = 1 - float(images.sum() / fast / seconds.sum())
    evidence = (
        f"Training took {images.sum() / seconds.sum():,.0f} images/s, evaluation included, and {fast:,.0f} in its "
        f"fastest stretches: {max(lost, 0):.0%} of the {duration(float(seconds.sum()))} was lost in slower ones."
    )
    if lost <= SLOW:
        return Diagnosis("fine", evidence)
    return Diagnosis(
        "act", evidence, "Look for other programs on the machine, a hot processor, or images on a slow disk."
    )


def _stretches(run: RunFolder) -> Iterator[tuple[float, float]]:
    """Yield the images and the seconds between lines of metrics; the first stretch has the start-up in it."""
    size = run.plan.get("batch_size")
    if not isinstance(size, int):
        return
    for one, other in pairwise(line for line in run.metrics if {"step", "seconds"} <= line.keys()):
        if other["step"] > one["step"] and other["seconds"] > one["seconds"]:
            yield (other["step"] - one["step"]) * size, other["seconds"] - one["seconds"]


def _share(run: RunFolder, line: dict[str, Any]) -> float:
    """Return the share of the planned training that was done at a line, by the limit that is nearest."""
    done = {"steps": line.get("step"), "epochs": line.get("epoch"), "minutes": line.get("seconds", 0) / 60}
    shares = [value / limit for name, value in done.items() if value and (limit := _number(run, name)) > 0]
    return max(shares) if shares else float(line["step"] / run.metrics[-1]["step"])


def _number(run: RunFolder, name: str) -> float:
    """Return a number of the plan; 0 if it is not there."""
    value = run.plan.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _percent(change: Forecast) -> str:
    """Return a decrease and its interval, e.g. "1.2% (0.8% to 1.9%)"."""
    middle, low, high = (f"{100 * value:.1f}%".replace("-", "−") for value in change)
    return f"{middle} ({low} to {high})"
