"""Steps against seconds: what a sample costs, next to the same number of calls of the network alone."""

import time
from dataclasses import dataclass
from statistics import mean, median
from typing import Annotated, Any

import torch
from torch import Tensor

from ddim import environment, progress
from ddim.denoiser import Denoiser
from ddim.experiments import base
from ddim.experiments.base import Cell, Drawing, Experiment, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut, forward_once, forward_seconds, reachable, wait
from ddim.level import Denoise, Level, Noise
from ddim.plots.canvas import BLUE, FAINT, INK, Canvas, log_axis
from ddim.plots.numbers import three
from ddim.samplers import DDIM, State
from ddim.text import counted

STEPS = (10, 20, 50, 100, 200, 500, 1000)
BATCHES = (64, 16, 4)
USUAL = 50
SHORT, REPEATS = 100, 3  # up to S = 100 the median of three runs
FORWARDS = 20  # calls of the network alone during a run, at most


@dataclass(frozen=True)
class Row:
    """The time of S steps, and of a call of the network alone during the same run."""

    steps: base.Positive
    seconds: base.NonNegative
    seconds_per_image: base.NonNegative
    forward_seconds: base.NonNegative
    ratio_to_forwards: base.NonNegative
    calls: int = 0
    repeats: int = 1

    @property
    def milliseconds(self) -> str:
        """The time of an image in milliseconds, as text."""
        return three(1000 * self.seconds_per_image)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """All rows, the images in a batch, and what ran it (see `ddim.environment`)."""

    machine: dict[str, Any]
    device: str
    threads: base.Positive
    batch: base.Positive
    rows: Annotated[tuple[Row, ...], base.NON_EMPTY]

    @property
    def usual(self) -> Row:
        """The row that the report shows first: that of the largest S up to 50, otherwise that of the smallest S."""
        ordered = sorted(self.rows, key=lambda row: row.steps)
        return [ordered[0], *(row for row in ordered if row.steps <= USUAL)][-1]


@register("timing")
class Timing(Experiment[Result]):
    """Time DDIM (eta = 0) at several S, with calls of the network alone in between.

    A limit of time first makes the batch smaller, then leaves out the largest S.
    """

    title = "What a step costs"
    reference = "the paper’s section 1"
    command = base.REPORT
    place = 30
    share = 0.3
    needs_images = False
    result_type = Result
    caption = (
        "Each of the <i>S</i> steps calls the network once. The dashed line is the time of <i>S</i> calls of the "
        "network alone, measured during the same run; the last column is the ratio of the two. A sampler without "
        "any cost of its own would have the ratio 1.00."
    )

    def calls(self, model: Denoiser) -> float:
        return float(BATCHES[0] * sum(map(_calls, reachable(STEPS, model.schedule.N))))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, every = setup.model, reachable(STEPS, setup.model.schedule.N)
        choices = [(batch, every) for batch in BATCHES]
        choices += [(BATCHES[-1], every[:n]) for n in range(len(every) - 1, 1, -1)]
        call = {batch: batch_seconds(model, batch, seconds) for batch in BATCHES}
        batch, steps = affordable(choices, lambda c: call[c[0]] * sum(map(_calls, c[1])), seconds)
        changes = [f"to batches of {batch}"] if batch != BATCHES[0] else []
        changes += [f"to at most {steps[-1]} steps"] if steps != every else []
        return Result(
            machine=environment.describe(),
            device=str(model.device),
            threads=torch.get_num_threads(),
            batch=batch,
            rows=tuple(_measure(model, batch, steps)),
            cut=cut(seconds, changes),
        ), {}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        rows, steps = result.rows, [row.steps for row in result.rows]
        canvas = Canvas(960)
        axes = canvas.axes(190, 50, 1720, 760)
        forward = median(row.forward_seconds for row in rows)
        alone = [forward * S for S in steps]
        axes.plot(steps, alone, color=FAINT, lw=1.8, ls=(0, (4, 2)), label="$S$ calls of the network alone")
        axes.plot(steps, [row.seconds for row in rows], "o", color=BLUE, ms=8, label="DDIM, measured")
        log_axis(axes.xaxis, axes.set_xscale)
        log_axis(axes.yaxis, axes.set_yscale)
        axes.set_xticks(steps)
        axes.set(xlabel="steps $S$", ylabel=f"seconds for {counted(result.batch, 'image')}")
        axes.set(xlim=(steps[0] / 1.3, steps[-1] * 1.5))
        axes.set_ylim(bottom=min(forward * steps[0], rows[0].seconds) / 1.7)  # room for the first label
        for row in rows:
            near = {"textcoords": "offset points", "color": INK}
            axes.annotate(f"{three(row.seconds)} s", (row.steps, row.seconds), (8, -12), **near)
        axes.legend(loc="upper left", fontsize=11)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        rows = []
        for row in result.rows:
            ratio = row.ratio_to_forwards
            times = [Cell(three(row.seconds), row.seconds), Cell(row.milliseconds, row.seconds_per_image)]
            rows.append([Cell.count(row.steps), *times, Cell(f"{ratio:.2f}", ratio)])
        processor = result.machine.get("processor", "unknown processor")
        threads, several = counted(result.threads, "thread"), f"Up to S = {SHORT} the median of three runs."
        note = f"On {result.device}, {threads}, {processor}. {several}"
        head = ["steps S", f"seconds for {counted(result.batch, 'image')}", "ms per image", "× network alone"]
        return [Table(head, rows, note=note)]

    def note(self, result: Result, model: Denoiser) -> str:
        """Say what the T steps of DDPM cost if they were not measured."""
        longest, T = max(result.rows, key=lambda row: row.steps), model.schedule.N
        if longest.steps >= T:
            return ""
        seconds = longest.seconds_per_image * T / longest.steps
        return f"At this rate the T = {T:,} steps of DDPM take {three(seconds)} s an image."


def _measure(model: Denoiser, batch: int, steps: list[int]) -> list[Row]:
    forward_seconds(model, batch)  # warm-up
    runs: dict[int, list[Row]] = {S: [] for S in steps}
    with progress.bar(total=sum(map(_calls, steps)), desc="timing", unit="call") as bar:
        for repeat in range(REPEATS):
            for S in (S for S in steps if repeat < _repeats(S)):
                runs[S].append(_time(model, batch, S))
                bar.update(S + min(S, FORWARDS))
    return [sorted(runs[S], key=lambda row: row.seconds)[len(runs[S]) // 2] for S in steps]


def _repeats(S: int) -> int:
    return REPEATS if S <= SHORT else 1


def _calls(S: int) -> int:
    return _repeats(S) * (S + min(S, FORWARDS))


def _time(model: Denoiser, batch: int, S: int) -> Row:
    sampler = Interleaved(model, batch, S)
    wait(model)
    began = time.perf_counter()
    model.sample(batch, steps=S, sampler=sampler, batch_size=batch, progress=False)
    seconds, forward = time.perf_counter() - began - sampler.paused, mean(sampler.forwards)
    return Row(S, seconds, seconds / batch, forward, seconds / (S * forward), calls=S, repeats=_repeats(S))


class Interleaved(DDIM):
    """DDIM with pauses for calls of the network alone, so that both meet the same load of a busy machine."""

    def __init__(self, model: Denoiser, batch: int, steps: int) -> None:
        super().__init__()
        self.model, self.batch = model, batch
        self.taken, self.pause = 0, -(-steps // FORWARDS)
        self.forwards: list[float] = []  # seconds of each call of the network alone
        self.paused = 0.0  # seconds of all pauses, to subtract from the time of the run

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        if self.taken % self.pause == 0:
            wait(self.model)
            began = time.perf_counter()
            self.forwards.append(forward_once(self.model, self.batch))
            self.paused += time.perf_counter() - began
        self.taken += 1
        return super().step(denoise, x, at, to, state, noise)
