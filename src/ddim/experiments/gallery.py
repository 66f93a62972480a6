"""Two galleries from the same starting noise: DDIM in few steps, DDPM in many."""

import math
from dataclasses import dataclass

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments import base
from ddim.experiments.base import REPORT, Drawing, Experiment, NonNegative, Positive, Samples, Setup, register, root
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer
from ddim.plots.canvas import BLUE, MARGIN, ORANGE, WIDTH, Canvas, mosaic
from ddim.sampling import DEFAULT_SPACING

COUNTS = (100, 64, 36)  # images: square numbers, for the grid
DDIM_STEPS = 50
SEED = 0


@dataclass(frozen=True)
class Half:
    """One of the galleries: how it was sampled. It is not timed; `timing` measures what a call of the network costs."""

    eta: NonNegative
    steps: Positive
    count: Positive
    calls: int = 0


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """Both galleries, with the spacing of their timesteps and the seed of their noise."""

    ddim: Half
    ddpm: Half
    spacing: str = DEFAULT_SPACING
    seed: int = SEED


@register("gallery")
class Gallery(Experiment[Result]):
    """Sample DDIM (eta = 0, S = 50) and DDPM (eta = 1, S = T) from the same noise.

    A limit of time first cuts the images, then the steps of DDPM.
    """

    title = "New images"
    reference = "the paper’s section 8"
    command = REPORT
    section = "samples"
    place = 10
    share = 0.6
    needs_images = False
    tensors = {"ddim/images": 4, "ddpm/images": 4}
    result_type = Result
    caption = (
        "Both sides start from the same noise. A step leads from <i>t</i> to an earlier <i>s</i>: "
        f'<i>x</i><sub>s</sub> = {root("ᾱ<sub>s</sub>")} <i class="hat">x</i><sub>0</sub> + '
        f"{root('1 − ᾱ<sub>s</sub> − σ²')} ε<sub>θ</sub>(<i>x</i><sub>t</sub>, <i>t</i>) + σ <i>z</i> (DDIM, "
        "Eq. 12), where η scales σ (Eq. 16). With η = 0 no noise is added, and a few large steps are enough. η = 1 "
        "is DDPM, which needs many steps. Each step calls the network once."
    )

    def calls(self, model: Denoiser) -> float:
        return float(COUNTS[0] * (model.schedule.N + min(DDIM_STEPS, model.schedule.N)))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, T = setup.model, setup.model.schedule.N
        choices = [(count, T) for count in COUNTS]
        choices += [(COUNTS[-1], S) for S in (500, 200, 100, 50, 20, 10) if S < T]
        call = batch_seconds(model, COUNTS[0], seconds) / COUNTS[0]
        count, steps = affordable(choices, lambda c: c[0] * call * (c[1] + min(DDIM_STEPS, c[1])), seconds)
        samples: Samples = {}
        halves = {}
        for name, eta, S in (("ddim", 0.0, min(DDIM_STEPS, steps)), ("ddpm", 1.0, steps)):
            images = model.sample(count, steps=S, sampler="ddim", eta=eta, seed=SEED, batch_size=count)
            halves[name] = Half(eta=eta, steps=S, count=count, calls=S)
            samples[f"{name}/images"] = to_uint8(images)
        spacing = model.sampling.spacing if model.sampling.sampler == "ddim" else DEFAULT_SPACING
        changes = [*fewer(COUNTS[0], count, "images"), *fewer(T, steps, "DDPM steps")]
        ddim, ddpm = halves["ddim"], halves["ddpm"]
        return Result(ddim=ddim, ddpm=ddpm, spacing=spacing, cut=cut(seconds, changes)), samples

    def figure(self, result: Result, samples: Samples) -> Drawing:
        ddim, ddpm = samples["ddim/images"], samples["ddpm/images"]
        if len(ddim) != len(ddpm):
            return None
        grids = [mosaic(images, math.isqrt(len(images))) for images in (ddim, ddpm)]
        high, wide = grids[0].shape[:2]
        scale = max(1, (WIDTH - 4 * MARGIN) // 2 // wide)
        canvas = Canvas(high * scale + 130 + MARGIN)
        halves = (("DDIM", result.ddim, BLUE), ("DDPM", result.ddpm, ORANGE))
        for side, ((name, half, color), grid) in enumerate(zip(halves, grids, strict=True)):
            left = (WIDTH - 2 * wide * scale - 2 * MARGIN) // 2 + side * (wide * scale + 2 * MARGIN)
            title = f"{name}   η = {half.eta:.0f}   S = {half.steps}"
            canvas.text(left, 75, title, ha="left", color=color, fontsize=13, weight="bold")
            canvas.image(grid, left, 130, scale)
        return canvas.figure
