"""Bits per dimension of held-out images: by the variational bound, and by the probability flow."""

import math
from dataclasses import dataclass
from typing import Any

from ddim.denoiser import Denoiser
from ddim.evaluate import bound, flow
from ddim.evaluate.batches import levels_of
from ddim.evaluate.intervals import Mean
from ddim.experiments import base
from ddim.experiments.base import Cell, Drawing, Experiment, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer
from ddim.plots.canvas import BLUE, FAINT, GREEN, INK, Canvas, interval, log_limits
from ddim.plots.numbers import Estimate, small
from ddim.text import counted

COUNTS = (256, 64, 32, 16, 8)  # images
BACK = 3  # cost of a call with its backward pass, in calls
CALLS = 1 + bound.TIMES + BACK * flow.STAGES * (flow.STEPS + flow.STEPS // 2)  # for an image
TOP, HEIGHT = 90, 620


@dataclass(frozen=True)
class Term:
    """What L_{t-1} adds to the bound, in bits per dimension."""

    t: base.Positive
    bits: base.NonNegative


@dataclass(frozen=True)
class Bits:
    """Bits per dimension with their 95% interval."""

    bits: float
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        """The bits as an `Estimate`."""
        return Estimate(self.bits, self.low, self.high)


@dataclass(frozen=True)
class Bound(Bits):
    """The bound, and its terms: L_T, L_0 and those between."""

    prior: base.NonNegative
    decoder: float
    rows: tuple[Term, ...]


@dataclass(frozen=True)
class Flow(Bits):
    """The likelihood by the flow; `coarse` is its value with half as many steps."""

    steps: base.Positive
    coarse: float


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """Both measures on `count` images; no flow if alpha_T = 0, since log-SNR then has no end."""

    count: base.Positive
    grey_levels: base.Positive
    bound: Bound
    flow: Flow | None = None


@register("likelihood")
class Likelihood(Experiment[Result]):
    """Measure the bits of held-out images. A limit of time cuts the images."""

    title = "Likelihood of held-out images"
    reference = "DDPM, Table 1"
    place = 80
    share = 0.5
    result_type = Result
    caption = (
        "Bits per dimension, −log<sub>2</sub> <i>p</i>(<i>x</i><sub>0</sub>) / (<i>C H W</i>), of held-out images; "
        "lower is better. The bound is <i>L</i><sub>T</sub> + Σ <i>L</i><sub>t−1</sub> + <i>L</i><sub>0</sub> "
        "(arXiv 2006.11239, Eq. 5); its terms are on the left by <i>t</i>. The flow integrates the divergence "
        "along DDIM’s equation, log <i>p</i>(<i>x</i><sub>0</sub>) = log <i>p</i>(<i>x</i><sub>T</sub>) + ∫ "
        "∇·<i>f</i> d<i>t</i> (arXiv 2011.13456, Eq. 39). The difference to half as many steps shows its numerical "
        "error. Bars are 95% intervals."
    )

    def calls(self, model: Denoiser) -> float:
        return float(COUNTS[0] * CALLS)

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, images = setup.model, setup.held_out
        call = batch_seconds(model, COUNTS[-1], seconds) / COUNTS[-1]
        choices = [count for count in COUNTS if count <= len(images)] or [len(images)]
        count = affordable(choices, lambda one: call * one * CALLS, seconds)
        above = bound.measure(model, images, count=count)
        terms = above.terms.tolist()  # of L_0, which is that of t = 1, ..., L_T
        rows = tuple(Term(t + 1, bits) for t, bits in enumerate(terms[1:-1], 1) if math.isfinite(bits))
        exact = None
        if model.schedule.alpha_bar[-1] > 0:
            measured = flow.measure(model, images, count=count)
            exact = Flow(*_interval(measured.bits), steps=measured.steps, coarse=measured.halved.mean)
        return Result(
            count=count,
            grey_levels=levels_of(images),
            bound=Bound(*_interval(above.bits), prior=terms[-1], decoder=terms[0], rows=rows),
            flow=exact,
            cut=cut(seconds, fewer(choices[0], count, "images")),
        ), {}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        canvas = Canvas(TOP + HEIGHT + 130)
        axes = canvas.axes(190, TOP, 880, HEIGHT)
        terms = sorted((term for term in result.bound.rows if term.bits > 0), key=lambda term: term.t)
        axes.plot([term.t for term in terms], [term.bits for term in terms], "o-", color=BLUE, ms=4, lw=1.6)
        axes.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="bits per dimension")
        axes.set_ylim(log_limits([term.bits for term in terms]))
        axes.set_title("contribution of each $t$ to the bound", loc="left", fontsize=11.5, weight="bold", pad=10)

        axes = canvas.axes(1290, TOP, 660, HEIGHT)
        totals = [("bound", result.bound.estimate, BLUE)]
        totals += [("flow", result.flow.estimate, GREEN)] if result.flow else []
        near: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
        for y, (_, one, color) in enumerate(totals):
            interval(axes, y, one, color)
            axes.annotate(f"{one}", (one.value, y), (0, 12), color=INK, **near)
        numbers = [number for _, one, _ in totals for number in one.ends]
        if result.flow:
            axes.plot([result.flow.coarse], [1], "|", color=FAINT, ms=16, mew=2)
            near |= {"fontsize": 9, "va": "top"}
            axes.annotate("half as many steps", (result.flow.coarse, 1), (0, -14), color=FAINT, **near)
            numbers.append(result.flow.coarse)
        room = (max(numbers) - min(numbers)) * 0.6 or 0.1
        axes.set(xlabel="bits per dimension", ylim=(1.6, -0.6))
        axes.set_xlim(min(numbers) - room, max(numbers) + room)
        axes.set_yticks(range(len(totals)), [name for name, *_ in totals], fontsize=12)
        axes.grid(axis="y", visible=False)
        axes.set_title("total", loc="left", fontsize=11.5, weight="bold", pad=10)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        bound, exact = result.bound, result.flow
        between = bound.bits - bound.prior - bound.decoder
        rows = [
            [Cell("the bound"), Cell.estimate(bound.estimate)],
            [Cell("its prior term, L_T"), Cell(small(bound.prior), bound.prior)],
            [Cell("its terms in between"), Cell(small(between), between)],
            [Cell("its decoder term, L_0"), Cell(small(bound.decoder), bound.decoder)],
        ]
        if exact:
            rows.append([Cell(f"the flow, S = {exact.steps}"), Cell.estimate(exact.estimate)])
            rows.append([Cell("the flow with half as many steps"), Cell(small(exact.coarse), exact.coarse)])
        images = counted(result.count, "held-out image")
        note = f"{images} in {result.grey_levels} grey levels, ± half of the 95% interval."
        return [Table(["measure", "bits per dimension"], rows, note=note)]

    def note(self, result: Result, model: Denoiser) -> str:
        if result.flow or model.schedule.alpha_bar[-1] > 0:
            return ""
        return "The flow does not apply to this model: its schedule ends at ᾱ = 0, where log-SNR has no end."


def _interval(bits: Mean) -> tuple[float, float, float]:
    return bits.mean, bits.mean - bits.margin, bits.mean + bits.margin
