"""The same noise at different S: DDIM reaches about the same image (DDIM, section 5.2 and Figure 5)."""

from dataclasses import dataclass
from typing import Annotated

import torch

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments import base
from ddim.experiments.base import Cell, Claim, Drawing, Experiment, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.plots.canvas import FAINT, INK, WIDTH, Canvas, Rows

COUNT = 8  # images
SEED = 0
STEPS = (10, 20, 50, 100, 200, 500, 1000)
FAR_BELOW = 0.5  # of the rms between images of different noise: (1/2)^2 = 1 - a correlation of 0.75
LABEL, NUMBER = 220, 250  # pixels left and right of the images, for text


@dataclass(frozen=True)
class Row:
    """The root mean square difference between the images of S steps and those of the largest S."""

    steps: base.Positive
    rms: base.NonNegative


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """A row for each S. All rms are over pixels in [-1, 1]."""

    between: base.NonNegative  # the rms between images of different noise, the scale to compare with
    rows: Annotated[tuple[Row, ...], base.NON_EMPTY]
    seed: int = SEED
    count: int = COUNT
    eta: str = "0"


@register("consistency")
class Consistency(Experiment[Result]):
    """Sample the same x_T by DDIM (eta = 0) at every S. A limit of time leaves out the largest S."""

    title = "The same noise, more steps"
    reference = "DDIM, Figure 5"
    place = 50
    share = 0.3
    needs_images = False
    tensors = {"images": 5}  # (S, N, C, H, W)
    result_type = Result
    caption = (
        "Each column starts from the same <i>x</i><sub>T</sub> and takes <i>S</i> steps of DDIM (Eq. 12 with σ = "
        "0). All of them solve the same ordinary differential equation (Eq. 14), so a few steps lead to almost the "
        "same image as many. The numbers are root mean squares over pixels from −1 to 1."
    )

    def calls(self, model: Denoiser) -> float:
        return COUNT * sum(steps_of(model))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, every = setup.model, steps_of(setup.model)
        call = batch_seconds(model, COUNT, seconds)
        choices = [every[:n] for n in range(len(every), 1, -1)] or [every]
        steps = affordable(choices, lambda choice: call * sum(choice), seconds)
        images = torch.stack([model.sample(COUNT, steps=S, sampler="ddim", eta=0.0, seed=SEED) for S in steps])
        last = images[-1]
        apart = (last[:, None] - last).square().mean(dim=(2, 3, 4))  # 0 for an image and itself
        rows = tuple(Row(S, float((x - last).square().mean().sqrt())) for S, x in zip(steps, images, strict=True))
        changes = [f"to at most {steps[-1]} steps"] if steps != every else []
        between = float((apart.sum() / (COUNT * (COUNT - 1))).sqrt())
        return Result(between=between, rows=rows, cut=cut(seconds, changes)), {"images": to_uint8(images)}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """As DDIM's Figure 5: a column for each x_T, a row for each S."""
        images, longest = samples["images"], max(row.steps for row in result.rows)
        if len(images) != len(result.rows):
            return None
        block = Rows(images, WIDTH - LABEL - NUMBER)
        left, top = LABEL + (WIDTH - LABEL - NUMBER - block.width) // 2, 130
        canvas = Canvas(top + block.height + 130)
        _, ys = block.draw(canvas, left, top)
        right = left + block.width + 110
        canvas.text(right, top - 55, f"rms to\n$S={longest}$", color=FAINT)
        for row, y in zip(result.rows, ys, strict=True):
            canvas.text(left - 25, y, f"$S={row.steps}$", ha="right", fontsize=12)
            last = row.steps == longest
            canvas.text(right, y, "–" if last else f"{row.rms:.3f}", fontsize=12, color=FAINT if last else INK)
        foot = top + block.height + 60
        canvas.text(left + block.width, foot, "between images of different noise", ha="right", color=FAINT)
        canvas.text(right, foot, f"{result.between:.3f}", fontsize=12, color=FAINT)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        rows = [[Cell.count(row.steps), Cell(f"{row.rms:.3f}", row.rms)] for row in result.rows]
        longest = max(row.steps for row in result.rows)
        note = f"The rms between images of different noise is {result.between:.3f}."
        return [Table(["steps S", f"rms to S = {longest:,}"], rows, note=note)]

    def claims(self, result: Result | None, T: int) -> list[Claim]:
        claim = "From the same noise, DDIM reaches the same image with any number of steps."
        if result is None or len(result.rows) < 2 or not result.between:
            return [Claim.not_measured(claim, "images of the same noise at several S")]
        *rows, longest = sorted(result.rows, key=lambda row: row.steps)
        each = ", ".join(f"{row.rms:.3f} at S = {row.steps:,}" for row in rows)
        evidence = (
            f"The rms to the images of S = {longest.steps:,} is {each}. Between images of different noise it is "
            f"{result.between:.3f}; less than half of that counts as the same image."
        )
        return [Claim(claim, all(row.rms < FAR_BELOW * result.between for row in rows), evidence)]


def steps_of(model: Denoiser) -> list[int]:
    """Return the numbers of steps to compare; the last one is T, or 1,000 for a larger T."""
    T = min(model.schedule.N, STEPS[-1])
    return [*(S for S in STEPS if S < T), T]
