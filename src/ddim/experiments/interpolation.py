"""From one image to another: DDIM's images of the noises on the arc between two (DDIM, section 5.3, Figure 6)."""

from dataclasses import dataclass

import torch

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.edit.interpolate import interpolate, line
from ddim.experiments import base
from ddim.experiments.base import Drawing, Experiment, Positive, Samples, Setup, register
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer, reachable
from ddim.forward import start
from ddim.noise import ImageNoise
from ddim.plots.canvas import MARGIN, WIDTH, Canvas, Rows
from ddim.samplers import DDIM

ROWS, COLUMNS = 6, 11  # pairs of noises, and images from one to the other
SEED = 0
STEPS = (50, 20, 10)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """How the rows were sampled; `seed` is that of the noises at their ends."""

    steps: Positive
    rows: int = ROWS
    columns: int = COLUMNS
    seed: int = SEED


@register("interpolation")
class Interpolation(Experiment[Result]):
    """Sample rows of images from one noise to another. A limit of time cuts the steps.

    A model with classes keeps one class in a row, so that only the noise changes.
    """

    title = "From one image to another"
    reference = "DDIM, Figure 6"
    place = 60
    share = 0.1
    needs_images = False
    tensors = {"images": 5}  # (rows, columns, C, H, W)
    result_type = Result
    caption = (
        "Each row goes from one noise to another along the great circle between them, <i>x</i><sub>T</sub> = "
        "(sin((1 − α)θ) <i>x</i><sub>T</sub><sup>(0)</sup> + sin(αθ) <i>x</i><sub>T</sub><sup>(1)</sup>) / sin θ "
        "with θ the angle between them (DDIM, appendix D.5; its α is the number above a column). Every noise on "
        "the arc is as likely as the ends, and the image that DDIM makes of it changes smoothly."
    )

    def calls(self, model: Denoiser) -> float:
        return float(ROWS * COLUMNS * min(STEPS[0], model.schedule.N))

    @torch.no_grad()
    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model = setup.model
        call = batch_seconds(model, ROWS * COLUMNS, seconds)
        choices = reachable(STEPS, model.schedule.N)
        steps = affordable(choices, lambda S: S * call, seconds)
        _, levels = model.sampling.resolve(model.schedule, steps, "ddim")
        ends = start(levels[0], ImageNoise(SEED, range(2 * ROWS))(torch.empty(2 * ROWS, *model.shape)))
        xT = torch.stack([line(one, other, COLUMNS) for one, other in zip(ends[::2], ends[1::2], strict=True)])
        labels = None
        if model.classes is not None:
            labels = (torch.arange(ROWS) % model.classes).repeat_interleave(COLUMNS)
        denoise = model.denoise(labels)
        images = interpolate(DDIM(), denoise, xT.to(model.device, model.image_dtype), levels, schedule=model.schedule)
        result = Result(steps=steps, cut=cut(seconds, fewer(choices[0], steps, "steps")))
        return result, {"images": to_uint8(images.float().cpu())}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """As DDIM's Figure 6."""
        block = Rows(samples["images"], WIDTH - 4 * MARGIN)
        left, top = (WIDTH - block.width) // 2, 110
        canvas = Canvas(top + block.height + MARGIN)
        xs, _ = block.draw(canvas, left, top)
        whole = max(samples["images"].shape[1] - 1, 1)
        ends = {0: r"$x_T^{(0)}$", whole: r"$x_T^{(1)}$"}
        for i, x in zip(block.shown, xs, strict=True):
            canvas.text(x, top - 45, ends.get(i, f"{i / whole:.2g}"), fontsize=13 if i in ends else 10.5)
        return canvas.figure
