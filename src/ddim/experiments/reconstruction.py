"""Held-out images, encoded to x_T and decoded again in S steps (DDIM, section 5.4 and Table 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ddim import progress
from ddim.data import Images, to_uint8
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.batches import Batch, batches, spread_rows
from ddim.evaluate.intervals import Mean
from ddim.experiments import base
from ddim.experiments.base import Cell, Claim, Drawing, Experiment, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer, reachable
from ddim.plots.canvas import BLUE, MARGIN, WIDTH, Canvas, Rows, curve, log_limits, step_ticks
from ddim.plots.numbers import Estimate
from ddim.samplers import DDIM
from ddim.sampling import SamplingOptions
from ddim.text import counted

STEPS = (10, 20, 50, 100, 200, 500, 1000)
COUNTS = (256, 64, 16)  # images
SPACING = "linear"  # the paper's for all data but CIFAR-10 (appendix D.2); its other one ends at 0.8 T
SHOWN = 8  # images
TOP, LEFT, CURVE, LABEL = 60, 210, 640, 210  # pixels; CURVE: width of the axes
HEIGHT = 900  # of the images, at most


@dataclass(frozen=True)
class Row:
    """The error after S steps each way: mean square over pixels from 0 to 1, with its 95% interval."""

    steps: base.Positive
    error: base.NonNegative
    low: base.NonNegative
    high: base.NonNegative

    @property
    def estimate(self) -> Estimate:
        """The error with its interval."""
        return Estimate(self.error, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """A row for each S, measured on `count` images."""

    count: base.Positive
    rows: Annotated[tuple[Row, ...], base.NON_EMPTY]


class Error(NamedTuple):
    """The error that S steps each way leave: its mean over images, with pixels from 0 to 1 as in Table 2."""

    steps: int
    error: Mean


def measure(
    model: Denoiser,
    images: Images,
    *,
    count: int | None = None,
    steps: Sequence[int] | None = None,
    spacing: str = "trailing",
    batch_size: int = 64,
) -> Iterator[Error]:
    """Encode and decode images with DDIM (eta = 0), without clipping, and measure the error.

    Args:
        model: on the device to use. A model with classes gets the labels in both directions.
        images: usually the held-out split.
        count: number of images, spread over the set; None is all.
        steps: numbers of steps; None is those of Table 2 that are at most T.
        spacing: of the timesteps. "trailing" reaches x_T; the paper's for CIFAR-10, "quadratic", ends at 0.8 T.
        batch_size: images at a time.

    Yields:
        The error of each S as soon as it is known.

    Raises:
        UserError: at the call, for images that do not fit the model, or a count or S out of range.
    """
    T, rows = model.schedule.N, spread_rows(model, images, count)
    every = reachable(STEPS, T) if steps is None else list(steps)
    if not all(1 <= S <= T for S in every):
        raise UserError(f"The numbers of steps must lie between 1 and T = {T}; got {', '.join(map(str, every))}.")

    def errors() -> Iterator[Error]:
        with progress.bar(total=2 * sum(every) * len(rows), desc="reconstruction", unit="call") as bar:
            for S in every:
                found = []
                for batch in batches(model, images, rows, batch_size):
                    found.append(squared_error(batch.x0, there_and_back(model, batch, S, spacing)))
                    bar.update(2 * S * len(batch.rows))
                yield Error(S, Mean.of(torch.cat(found)))

    return errors()


def there_and_back(model: Denoiser, batch: Batch, S: int, spacing: str) -> Tensor:
    """Encode and decode a batch by DDIM (eta = 0) in S steps each way."""
    options: SamplingOptions = {"steps": S, "sampler": DDIM(), "spacing": spacing}
    return model.decode(model.encode(batch.x0, labels=batch.label, **options), labels=batch.label, **options)


def squared_error(x0: Tensor, back: Tensor) -> Tensor:
    """Return mean ((x0 - back) / 2)^2 of each image, (B,) float64 on the CPU: the error of pixels from 0 to 1."""
    return ((x0 - back).cpu().double() / 2).square().flatten(1).mean(1)


@register("reconstruction")
class Reconstruction(Experiment[Result]):
    """Encode and decode held-out images at several S.

    A limit of time cuts the images and leaves out the largest S.
    """

    title = "Reconstruction"
    reference = "DDIM, Table 2"
    place = 70
    share = 0.4
    tensors = {"images": 5}  # (1 + S, N, C, H, W): the originals before the reconstructions of each S
    result_type = Result
    caption = (
        "Held-out images, encoded by <i>S</i> steps of DDIM’s equation backwards (DDIM, Eqs. 13 and 14), from "
        "<i>t</i> = 0 up the linear timesteps, and decoded by <i>S</i> steps forwards. The error is a mean square "
        "over pixels from 0 to 1; bars are 95% intervals."
    )

    def calls(self, model: Denoiser) -> float:
        return float(2 * (COUNTS[0] + SHOWN) * sum(reachable(STEPS, model.schedule.N)))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, images, every = setup.model, setup.held_out, reachable(STEPS, setup.model.schedule.N)
        call = batch_seconds(model, COUNTS[-1], seconds) / COUNTS[-1]
        counts = [count for count in COUNTS if count <= len(images)] or [len(images)]
        choices = [(count, every) for count in counts[:2]]
        fewest = range(len(every) - 1, 1, -1)  # two at least
        choices += [(count, every[:n]) for count in counts[1:] or counts for n in fewest]
        count, steps = affordable(choices, lambda one: 2 * call * (one[0] + SHOWN) * sum(one[1]), seconds)
        rows = tuple(
            Row(S, error.mean, max(error.mean - error.margin, 0), error.mean + error.margin)
            for S, error in measure(model, images, count=count, steps=steps, spacing=SPACING)
        )
        batch = next(batches(model, images, spread_rows(model, images, min(SHOWN, len(images))), SHOWN))
        shown = [batch.x0, *(there_and_back(model, batch, S, SPACING) for S in steps)]
        pixels = to_uint8(torch.stack(shown).float().cpu())
        changes = fewer(choices[0][0], count, "images")
        changes += [f"to at most {steps[-1]} steps"] if steps != every else []
        return Result(count=count, rows=rows, cut=cut(seconds, changes)), {"images": pixels}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """Draw the error on the left; on the right held-out images and their reconstructions."""
        images = samples["images"]
        if len(images) != 1 + len(result.rows):
            return None
        space = WIDTH - LEFT - CURVE - LABEL - MARGIN
        columns = max(4, 8 * 28 // images.shape[-1])  # fewer of large images, instead of smaller pixels
        block = Rows(images[:, :columns], space, HEIGHT)
        left, height = WIDTH - MARGIN - block.width, max(block.height, 520)
        canvas = Canvas(TOP + height + 130)
        top = TOP + (height - block.height) // 2
        _, ys = block.draw(canvas, left, top)
        labels = ["original", *(f"$S={row.steps}$" for row in result.rows)]
        for label, y in zip(labels, ys, strict=True):
            canvas.text(left - 20, y, label, ha="right")

        axes = canvas.axes(LEFT, TOP, left - LABEL - LEFT, height)
        rows = sorted(result.rows, key=lambda row: row.steps)
        steps, errors = [row.steps for row in rows], [row.estimate for row in rows]
        curve(axes, steps, errors, BLUE)
        axes.set(xscale="log", yscale="log", xlim=(steps[0] / 1.4, steps[-1] * 1.4), xlabel="steps $S$, each way")
        axes.set(ylabel="mean squared error", ylim=log_limits([number for one in errors for number in one.ends]))
        step_ticks(axes, steps, fontsize=9)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        rows = [[Cell.count(row.steps), Cell.estimate(row.estimate)] for row in result.rows]
        note = f"{counted(result.count, 'held-out image')}, ± half of the 95% interval."
        return [Table(["steps S", "mean squared error"], rows, note=note)]

    def claims(self, result: Result | None, T: int) -> list[Claim]:
        """Say that the error falls if the intervals of the first and the last S do not overlap and no error rises.

        An error rises if it lies above the interval of the one before; if the two intervals do not overlap either,
        the claim fails.
        """
        claim = "The error of encoding an image and decoding it again falls with the number of steps."
        rows = sorted(result.rows, key=lambda row: row.steps) if result else []
        errors = [row.estimate for row in rows]
        if len(errors) < 2:
            return [Claim.not_measured(claim, "the error at several S")]
        falls = errors[-1].below(errors[0]) and all(b.no_worse(a) for a, b in pairwise(errors))
        rises = any(a.below(b) for a, b in pairwise(errors))
        each = [f"{row.estimate} at S = {row.steps:,}" for row in rows]
        steps = zip(pairwise(each), pairwise(errors), strict=True)
        worse = [f"it rises from {one} to {next_}" for (one, next_), (a, b) in steps if not b.no_worse(a)]
        evidence = f"Mean squared error of pixels from 0 to 1: {'; '.join([f'{each[0]}, {each[-1]}', *worse])}."
        return [Claim(claim, True if falls else False if rises else None, evidence)]
