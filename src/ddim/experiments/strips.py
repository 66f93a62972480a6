"""From noise to image, frame by frame: x_t, and the x0 that the network predicts from it."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from ddim import progress
from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments import base
from ddim.experiments.base import REPORT, Drawing, Experiment, Extra, Samples, Setup, register, root
from ddim.experiments.cost import affordable, batch_seconds, cut, fewer, reachable
from ddim.forward import start
from ddim.level import Level, Prediction
from ddim.noise import ImageNoise
from ddim.plots.canvas import BLUE, FAINT, INK, MARGIN, ORANGE, WIDTH, Canvas, Rows, mosaic, separator
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.sampling import DEFAULT_SPACING

COUNT = 6  # images
FRAMES = 41  # from x_T to x_0, both included
STEPS = (200, 100, 50, 20, 10)
ETAS = (0.0, 1.0)
SEED = 0
NAMES = ("eta0.x", "eta0.x0", "eta1.x", "eta1.x0")

STOPS, ROWS = 11, 2  # of the figure: frames in a row, and pairs of rows for each eta

DURATION, FIRST, LAST = 80, 600, 3000  # of the animation, milliseconds: a frame, the first and the last
LARGEST = 1_500_000  # bytes
TRIES = ((6, 1, 128), (6, 1, 64), (4, 1, 64), (4, 2, 64), (4, 4, 32))  # images, every n-th frame, colours
ACROSS = 620  # pixels of all the images in a row, about
LABEL, HEAD = 150, 44  # pixels left of the images, and above them


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """How the strips were sampled."""

    steps: int = 0
    etas: tuple[float, ...] = ETAS
    count: int = COUNT
    spacing: str = DEFAULT_SPACING
    seed: int = SEED


class Frame(NamedTuple):
    """A trajectory at time t: the images, and the x0 that the network predicts from them."""

    t: float
    x: Tensor
    x0: Tensor


def animation(result: Result, samples: Samples) -> bytes | None:
    """Return the strips as an animated GIF of at most 1.5 MB: eta = 0 above, eta = 1 below."""
    if not _complete(samples):
        return None
    stacked = torch.stack([samples[name] for name in NAMES], dim=1)  # (F, 4, N, C, H, W)
    encoded = b""
    for images, every, colours in TRIES:
        kept = torch.linspace(0, len(stacked) - 1, math.ceil(len(stacked) / every)).round().long()
        times = samples["times"][kept].tolist()
        frames = [_picture(rows, t) for rows, t in zip(stacked[kept, :, :images], times, strict=True)]
        encoded = _gif(frames, colours)
        if len(encoded) <= LARGEST:
            break
    return encoded


@register("strips")
class Strips(Experiment[Result]):
    """Sample with eta = 0 and with eta = 1 from the same noise, and keep about 41 frames of each.

    A limit of time cuts the steps.
    """

    title = "From noise to image"
    reference = "the paper’s section 4"
    command = REPORT
    place = 20
    share = 0.1
    needs_images = False
    tensors = {"times": 1, **dict.fromkeys(NAMES, 5)}
    result_type = Result
    caption = (
        'Below each <i>x</i><sub>t</sub> is the image that the network predicts from it: <i class="hat">x</i>'
        f"<sub>0</sub> = (<i>x</i><sub>t</sub> − {root('1 − ᾱ<sub>t</sub>')} ε<sub>θ</sub>(<i>x</i><sub>t</sub>, "
        f"<i>t</i>)) / {root('ᾱ<sub>t</sub>')} (DDIM, Eq. 9), clipped to −1 … 1. While the noise is strong, the "
        "prediction is blurred: it is the average of all images that are still possible. It becomes sharp as the "
        "noise decreases. Both halves start from the same noise."
    )
    extras = (
        Extra(
            "denoising",
            "From noise to image, animated",
            "The path of DDIM is a smooth curve that the starting noise determines. DDPM adds new noise in each "
            "step, so its path is rough and it ends at other images.",
            animation,
        ),
    )

    def calls(self, model: Denoiser) -> float:
        return float(COUNT * len(ETAS) * min(STEPS[0], model.schedule.N))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model = setup.model
        choices = reachable(STEPS, model.schedule.N)
        call = batch_seconds(model, COUNT, seconds)
        steps = affordable(choices, lambda S: len(ETAS) * S * call, seconds)
        kept = set(torch.linspace(0, steps, min(FRAMES, steps + 1)).round().int().tolist())
        samples: Samples = {}
        with progress.bar(total=len(ETAS) * steps, desc="denoising strips", unit="step") as bar:
            for eta in ETAS:
                shots = []
                for i, frame in enumerate(frames(model, DDIM(eta), steps)):
                    bar.update(i > 0)
                    if i in kept:
                        shots.append(Frame(frame.t, to_uint8(frame.x.cpu()), to_uint8(frame.x0.cpu())))
                times, x, x0 = zip(*shots, strict=True)
                samples |= {f"eta{eta:.0f}.x": torch.stack(x), f"eta{eta:.0f}.x0": torch.stack(x0)}
        samples["times"] = torch.tensor(times, dtype=torch.float64)
        return Result(steps=steps, cut=cut(seconds, fewer(choices[0], steps, "steps"))), samples

    def figure(self, result: Result, samples: Samples) -> Drawing:
        if not _complete(samples):
            return None
        times = samples["times"]
        stops = torch.linspace(0, len(times) - 1, min(STOPS, len(times))).round().long()
        width = WIDTH - 3 * MARGIN - 60
        blocks = {}
        for name in ("eta0", "eta1"):
            pairs = pairs_of_rows(samples, name, stops)[:ROWS]
            blocks[name] = [Rows(pair.reshape(2, -1, *pair.shape[1:]), width) for pair in pairs]
        first = blocks["eta0"][0]
        left, part = WIDTH - MARGIN - first.width, ROWS * (first.height + MARGIN) + 160
        shown = times[stops][first.shown].round().int().tolist()

        canvas = Canvas(2 * part)
        titles = ("η = 0   DDIM, deterministic", BLUE), ("η = 1   DDPM, new noise in each step", ORANGE)
        for i, (name, (title, color)) in enumerate(zip(blocks, titles, strict=True)):
            top = i * part + 160
            canvas.text(left, top - 105, title, ha="left", color=color, fontsize=14, weight="bold")
            for row, block in enumerate(blocks[name]):
                xs, ys = block.draw(canvas, left, top)
                for x, t in zip(xs, () if row else shown, strict=row == 0):
                    canvas.text(x, top - 35, f"$t={t}$" if t in (shown[0], shown[-1]) else f"{t}")
                for label, y in zip(("$x_t$", r"$\hat x_0$"), ys, strict=True):
                    canvas.text(left - 50, y, label, fontsize=13)
                top += block.height + MARGIN
        return canvas.figure

    def note(self, result: Result, model: Denoiser) -> str:
        if model.predicts == "eps":
            return (
                "Near t = T the division by a tiny signal rate magnifies the smallest error of the network, so the "
                "first predictions are clipped almost everywhere."
            )
        return f"This network predicts {model.predicts}, and ε is computed from that."


@torch.no_grad()
def frames(model: Denoiser, sampler: Sampler, steps: int, count: int = COUNT, seed: int = SEED) -> Iterator[Frame]:
    """Yield all S + 1 frames of the images that `model.sample` draws with the same arguments.

    The sampler has to call the network once in each step.
    """
    model.eval()
    _, levels = model.sampling.resolve(model.schedule, steps, sampler)
    noise = ImageNoise(seed, range(count))
    x = start(levels[0], noise(torch.empty(count, *model.shape, device=model.device, dtype=model.image_dtype)))
    denoise = model.denoise(None if model.classes is None else torch.arange(count) % model.classes)
    predictions: list[Prediction] = []

    def recorded(x: Tensor, at: Level) -> Prediction:  # so that a frame needs no second network call
        predictions[:] = [denoise(x, at)]
        return predictions[0]

    after = trajectory(sampler, recorded, x, levels, noise, model.schedule)
    for at, following in zip(levels[:-1], after, strict=True):
        yield Frame(float(at.t), x, predictions[0].x0)
        x = following
    yield Frame(float(levels[-1].t), x, x)


def pairs_of_rows(samples: Samples, name: str, stops: Tensor) -> Tensor:
    """Return (N, 2 F, C, H, W): for each image x_t at all stops, then the predicted x0."""
    both = torch.stack([samples[f"{name}.x"][stops], samples[f"{name}.x0"][stops]])  # (2, F, N, C, H, W)
    return both.flatten(0, 1).transpose(0, 1)


def _complete(samples: Samples) -> bool:
    """Whether all strips have the same shape, and a time for each frame."""
    times, shapes = samples["times"], {samples[name].shape for name in NAMES}
    return len(shapes) == 1 and times.shape == shapes.pop()[:1] and len(times) > 1 and times.is_floating_point()


def _picture(rows: Tensor, t: float) -> Image.Image:
    """One frame of the animation from (4, N, C, H, W) images."""
    count, size = rows.shape[1], rows.shape[-1]
    grids = [mosaic(rows[i : i + 2].flatten(0, 1), count) for i in (0, 2)]
    high, wide = grids[0].shape[:2]
    scale = max(1, ACROSS // wide)
    picture = Image.new("RGB", (LABEL + wide * scale + 20, 2 * (high * scale + HEAD) + 20), "#ffffff")
    pen = ImageDraw.Draw(picture)
    pitch = (rows.shape[-2] + separator(size)) * scale
    titles = (("DDIM, η = 0", BLUE), ("DDPM, η = 1", ORANGE))
    for block, (grid, (title, color)) in enumerate(zip(grids, titles, strict=True)):
        top = HEAD + block * (high * scale + HEAD)
        picture.paste(Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)), (LABEL, top))
        pen.text((LABEL, top - 10), title, font=_font(18, bold=True), fill=color, anchor="ls")
        for i, label in enumerate(("image xₜ", "predicted x₀")):
            pen.text((LABEL - 12, top + (i + 0.5) * pitch), label, font=_font(17), fill=INK, anchor="rm")
    pen.text((LABEL + wide * scale, HEAD - 10), f"t = {t:.0f}", font=_font(18), fill=FAINT, anchor="rs")
    return picture


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)


def _gif(frames: list[Image.Image], colours: int) -> bytes:
    """Encode a GIF with one palette for all frames, made from three of them; the colours of the text stay exact."""
    three = [np.asarray(frames[i]) for i in (0, len(frames) // 2, -1)]
    exact = [c for name in ("#ffffff", BLUE, ORANGE, INK, FAINT) for c in ImageColor.getrgb(name)]
    mixed = Image.fromarray(np.concatenate(three)).quantize(colours - len(exact) // 3).getpalette() or []
    rest = [c for i in range(0, len(mixed), 3) if min(mixed[i : i + 3]) < 245 for c in mixed[i : i + 3]]
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + rest)  # one white, not several that are nearly white
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    times = [FIRST, *[DURATION] * (len(frames) - 2), LAST][-len(frames) :]
    drawn[0].save(file, "GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)
    return file.getvalue()
