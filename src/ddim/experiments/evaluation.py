"""The model with its default sampling, compared with held-out images by several metrics."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ddim.denoiser import Denoiser
from ddim.evaluate import measure
from ddim.evaluate.evaluation import METRICS, OLD_NAMES
from ddim.evaluate.real import KINDS, labels_for, of_splits
from ddim.evaluate.scoring import knows
from ddim.experiments import base
from ddim.experiments.base import NON_EMPTY, Cell, Drawing, Experiment, Positive, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer
from ddim.plots.canvas import BLUE, FAINT, WIDTH, Canvas, interval, literal
from ddim.plots.numbers import Estimate

COUNTS = (10000, 5000, 2000, 1000, 500, 200)  # images
SEED = 0
SHARES = ("precision", "recall", "density", "coverage", "accuracy")  # from 0 to about 1; higher is better
TOP, LEFT, RIGHT, HEIGHT = 130, 500, 530, 80  # pixels; text is left and right of the axes
PITCH, CLOSE = 190, 115  # from one metric to the next, with and without tick labels


@dataclass(frozen=True)
class Metric:
    """A metric of the samples with its 95% interval, and its floor: the same of real images. None is not finite."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None

    @property
    def samples(self) -> Estimate | None:
        """The metric of the samples; None if it is not finite."""
        return Estimate.of(self.value, self.low, self.high)

    @property
    def real(self) -> Estimate | None:
        """The metric of real images; None if it is unknown."""
        return Estimate.of(self.floor, self.floor_low, self.floor_high)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """The metrics by name. See `ddim.evaluate.Evaluation` for the other fields."""

    metrics: Annotated[dict[str, Metric], NON_EMPTY]
    sampling: str
    about: str
    count: Positive
    reference_count: Positive
    floor: str
    extractor: str = ""
    fingerprint: str = ""
    dim: int = 0
    equal: int = 0
    resamples: int = 0
    floor_count: int = 0
    floor_reference_count: int = 0
    seed: int = SEED
    classes: str = ""  # how often each class was drawn; empty for a model without classes, or if unknown
    reference: dict[str, Any] = field(default_factory=dict)  # `ddim.evaluate.real.Real.facts`; empty if unknown

    @property
    def estimates(self) -> dict[str, tuple[Estimate, Estimate | None]]:
        """The metrics of the samples and of real images, without those that are not finite."""
        return {name: (one.samples, one.real) for name, one in self.metrics.items() if one.samples}


@register("evaluation")
class Evaluation(Experiment[Result]):
    """Sample the model with its defaults, classes as often as in the reference, and measure the metrics.

    A limit of time cuts the images.
    """

    title = "Quality of the samples"
    reference = "not in the paper"
    place = 100
    share = 0.7
    tensors = {"images": 4}
    shows_samples = False
    result_type = Result
    caption = (
        "The distance between samples and real images: Fréchet distance (arXiv 1706.08500, Eq. 6) and kernel "
        "distance (KID, arXiv 1801.01401, section 4); precision, the share of samples among the real images, and "
        "recall, the share of real images among the samples (arXiv 1904.06991, Eq. 2); density and coverage, the "
        "same but less sensitive to outliers (arXiv 2002.09797, section 3.2). Each metric is shown next to the "
        "same metric of real images."
    )

    def calls(self, model: Denoiser) -> float:
        return float(COUNTS[0] * min(model.sampling.steps, model.schedule.N))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, real = setup.model, of_splits(*setup.images)
        extractor, reference = real.extractor, real.reference
        call, steps = batch_seconds(model, 64, seconds) / 64, min(model.sampling.steps, model.schedule.N)
        counts = sorted({min(count, real.draw) for count in COUNTS}, reverse=True)  # the floor has as many
        choices = [count for count in counts if count > extractor.dim]
        count = affordable(choices, lambda one: call * one * steps, seconds)
        labels, classes = labels_for(model, reference, count)
        images = model.sample(count, labels=labels, seed=SEED, pixels=True)
        known = labels if knows(extractor, reference.classes) else None
        evaluation = measure(images, reference, extractor=extractor, real=real.others, labels=known, seed=SEED)
        facts: dict[str, Any] = {"sampling": model.describe_sampling(), "classes": classes, "reference": real.facts()}
        facts |= {"cut": cut(seconds, fewer(choices[0], count, "images"))}
        return msgspec.convert({**evaluation.to_dict(), **facts}, Result), {"images": images}

    def upgrade(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {**facts, "metrics": renamed(facts.get("metrics") or facts["figures"])}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """Draw a strip for each metric; the shares come last and have one common axis."""
        metrics = result.estimates
        if not metrics:
            return None
        shares = [name for name in SHARES if name in metrics]
        order = [name for name in metrics if name not in SHARES] + shares
        common = _limits([number for name in shares for number in _numbers(*metrics[name])])
        pitches = [CLOSE if name in shares[:-1] else PITCH for name in order]
        tops = [TOP + sum(pitches[:i]) for i in range(len(order))]
        canvas = Canvas(tops[-1] + PITCH)
        for name, top in zip(order, tops, strict=True):
            own, real = metrics[name]
            axes = canvas.axes(LEFT, top, WIDTH - LEFT - RIGHT, HEIGHT)
            axes.set(xlim=common if name in shares else _limits([0.0, *_numbers(own, real)]), ylim=(-1, 1), yticks=())
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.tick_params(labelbottom=name not in shares[:-1])
            axes.spines["left"].set_visible(False)
            if real is not None:
                axes.axvspan(real.low, real.high, color=FAINT, alpha=0.3, lw=0)
                axes.axvline(real.value, color=FAINT, lw=1.5)
            interval(axes, 0, own, BLUE)
            middle = top + HEIGHT / 2
            canvas.text(LEFT - 45, middle - 16, literal(METRICS.get(name, name)), ha="right", fontsize=11.5)
            if name in METRICS:
                better = "higher is better" if name in SHARES else "lower is better"
                canvas.text(LEFT - 45, middle + 24, better, ha="right", fontsize=9, color=FAINT)
            canvas.text(WIDTH - RIGHT + 45, middle, f"{own}", ha="left", fontsize=11.5)
        handles = [
            Line2D([], [], color=BLUE, marker="o", ms=7, lw=5, alpha=0.8, label="samples, with the 95% interval"),
            Patch(color=FAINT, alpha=0.3, lw=0, label="real images"),
        ]
        canvas.legend(handles, LEFT, 55)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        rows = [
            [Cell(METRICS.get(name, name)), Cell.estimate(own), Cell.estimate(real)]
            for name, (own, real) in result.estimates.items()
        ]
        drawn = f"{result.sampling}; classes {result.classes}" if result.classes else result.sampling
        kind = KINDS.get(result.reference.get("split", ""), "")
        notice = f" {result.reference['notice']}" if "notice" in result.reference else ""
        note = (
            f"{result.count:,} samples ({drawn}) against {result.reference_count:,} {kind}images, ± half of the 95% "
            f"interval.{notice} Real images: {result.floor}. {result.about}"
        )
        return [Table(["Metric", "samples", "real images"], rows, note=note)]


def renamed(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return metrics with today's names and without those that are no table of numbers."""
    return {OLD_NAMES.get(name, name): one if isinstance(one, dict) else {} for name, one in metrics.items()}


def _numbers(own: Estimate, real: Estimate | None) -> list[float]:
    return [*own.ends, *(real.ends if real else ())]


def _limits(numbers: list[float]) -> tuple[float, float]:
    """Return the ends of an axis that holds these numbers with some room."""
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room
