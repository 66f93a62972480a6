"""The result of an evaluation: metrics with intervals and floors, as text, as JSON, and as a ranking of several."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ddim.files import json_values, write_text

METRICS = {
    "frechet": "Fréchet distance",
    "kid": "kernel distance (KID)",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "accuracy": "accuracy of the label",
}
"""Name of a metric -> its name in tables, figures and cards."""
OLD_NAMES = {"agreement": "accuracy"}  # of metrics in files written before


@dataclass(frozen=True)
class Metric:
    """A metric with its interval and its floor; floors are NaN where they are not known."""

    value: float  # of the samples
    low: float  # 95% confidence interval
    high: float
    floor: float  # mean of the same metric for real images in the place of the samples
    floor_low: float  # 95% of such draws of real images lie here, and so would a perfect sampler
    floor_high: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Metric":
        """Return the metric of a JSON file, where null stands for NaN."""
        return cls(*(math.nan if values[field.name] is None else values[field.name] for field in fields(cls)))


@dataclass(frozen=True)
class Evaluation:
    """All metrics, and how they were measured."""

    metrics: dict[str, Metric]  # those of `ddim.evaluate.metrics.LIMITS`, and "accuracy" where labels were given
    extractor: str  # name, description and fingerprint of the feature extractor
    about: str
    fingerprint: str
    dim: int  # F, the feature dimension
    count: int  # numbers of samples and of real images
    reference_count: int
    equal: int  # how many images of each set precision, recall, density and coverage use
    resamples: int  # bootstrap resamples behind the intervals of frechet and kid
    floor_count: int  # how many real images stand for the samples, and for the reference
    floor_reference_count: int
    floor: str  # how the images of the floor were drawn
    seed: int  # of the bootstrap and of the draws

    @property
    def figures(self) -> dict[str, Metric]:
        """Deprecated: read `metrics`."""
        warnings.warn("Evaluation.figures is now Evaluation.metrics.", DeprecationWarning, stacklevel=2)
        return self.metrics

    @property
    def equal_floor(self) -> bool:
        """Whether the floor uses as many images as the samples and the reference. Fewer have larger distances."""
        return (self.floor_count, self.floor_reference_count) == (self.count, self.reference_count)

    def at_floor(self, name: str) -> bool:
        """Return whether a metric cannot be told from that of equally many real images.

        It is False for a floor of fewer images, which would flatter the samples.
        """
        metric = self.metrics[name]
        return self.equal_floor and metric.floor_low <= metric.value <= metric.floor_high

    def flat(self) -> dict[str, float]:
        """Return plain numbers: "frechet", "frechet_low", ..., "frechet_floor_high", "kid", ..., and the counts."""
        numbers = {
            name if part == "value" else f"{name}_{part}": number
            for name, metric in self.metrics.items()
            for part, number in vars(metric).items()
        }
        counts = ("count", "reference_count", "floor_count")
        return numbers | {name: float(getattr(self, name)) for name in counts}

    def to_dict(self) -> dict[str, Any]:
        """Return values for a JSON file, with None for NaN."""
        return json_values(asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Return the evaluation of a JSON file, also of one with the old names "figures" and "agreement"."""
        metrics = values["metrics"] if "metrics" in values else values["figures"]
        known = {field.name: values[field.name] for field in fields(cls) if field.name != "metrics"}
        return cls({OLD_NAMES.get(name, name): Metric.from_dict(one) for name, one in metrics.items()}, **known)

    def save(self, folder: Path, **details: Any) -> Path:
        """Write `evaluation.json`, with the `details` as further entries, and return its path."""
        path = folder / "evaluation.json"
        write_text(path, json.dumps({**details, **self.to_dict()}, indent=2) + "\n")
        return path

    def lines(self) -> Iterator[str]:
        """Yield a table as text. Metrics that lie at the floor are marked."""
        yield f"{self.count:,} samples against {self.reference_count:,} real images, extractor {self.extractor}"
        yield f"({self.about})"
        yield f"{'':10}{'value':>9}  {'95% interval':^19}  {'real images':>11}  {'95% of them':^19}".rstrip()
        for name, metric in self.metrics.items():
            yield (
                f"{name:10}{number(metric.value):>9}  {span(metric.low, metric.high):^19}  "
                f"{number(metric.floor):>11}  {span(metric.floor_low, metric.floor_high):^19}  "
                f"{'as real images' if self.at_floor(name) else ''}"
            ).rstrip()
        yield f"Real images: {self.floor}."


def ranked(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Return the names, ordered by the Fréchet distance above its floor, the smallest first."""
    return sorted(evaluations, key=lambda name: above_floor(evaluations[name]))


def above_floor(evaluation: Evaluation) -> float:
    """Return the Fréchet distance minus its floor: few images bias both upwards by about the same amount."""
    metric = evaluation.metrics["frechet"]
    return metric.value - metric.floor


def comparison(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Yield a ranked table as text, after the floors for each number of images.

    Args:
        evaluations: by name, all of one extractor and one reference.
    """
    first = next(iter(evaluations.values()))
    names = [name for name in first.metrics if all(name in one.metrics for one in evaluations.values())]
    rows = [["", "images", "above floor", *names]]
    for one in {(one.floor_count, one.equal): one for one in evaluations.values()}.values():
        metrics = [one.metrics[name] for name in names]
        cells = [_cell(metric.floor, metric.floor_low, metric.floor_high, " ") for metric in metrics]
        rows.append(["real images", f"{one.floor_count:,}", "", *cells])
    for subject in ranked(evaluations):
        one = evaluations[subject]
        metrics = [one.metrics[name] for name in names]
        marks = ["*" if one.at_floor(name) else " " for name in names]
        cells = [_cell(m.value, m.low, m.high, mark) for m, mark in zip(metrics, marks, strict=True)]
        rows.append([subject, f"{one.count:,}", number(above_floor(one)), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first_cell, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([first_cell.ljust(widths[0]), *aligned]).rstrip()
    yield "Ranked by frechet minus its floor, which is the distance of equally many real images."
    if fewer := [name for name, one in evaluations.items() if not one.equal_floor]:
        yield f"There are too few real images for {', '.join(fewer)}: the floor is too high and flatters the rank."
    yield f"Against {first.reference_count:,} real images, extractor {first.extractor} ({first.about})."
    yield "± is half of the 95% interval, or its longer side; * cannot be told from equally many real images."


def number(value: float) -> str:
    """Return a number in few characters, "-" for NaN."""
    if math.isnan(value):
        return "-"
    decimals = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"


def span(low: float, high: float) -> str:
    """Return "low to high", "-" for NaN."""
    return "-" if math.isnan(low) else f"{number(low)} to {number(high)}"


def _cell(value: float, low: float, high: float, mark: str) -> str:
    return f"{number(value)} ± {number(max(value - low, high - value))}{mark}"
