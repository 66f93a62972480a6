"""The tab *Sample*: new images, and their way from x_T to x_0."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim import samplers, timesteps
from ddim.denoiser import Denoiser
from ddim.device import evaluating
from ddim.errors import UserError
from ddim.forward import start
from ddim.guidance import EVERYWHERE, contains
from ddim.level import Level, Prediction
from ddim.noise import ImageNoise
from ddim.pictures import to_uint8
from ddim.presets import guidance_of
from ddim.samplers import trajectory
from ddim.studio.models import NETWORK, QUICK, Models, labels_of, sentences
from ddim.studio.views import SHOW_FRAME, chart, figure, of_frame, paragraph
from ddim.text import counted

OWN = "model's own"  # choice of a sampler or a spacing
MOST_IMAGES, MOST_FRAMES = 16, 25


@dataclass(frozen=True)
class Solver:
    """How images are made from noise; None is the model's default, see `ddim.Denoiser.sample`."""

    steps: int
    sampler: str | None = None
    eta: float | None = None
    spacing: str | None = None
    guidance: float | None = None

    @classmethod
    def of(cls, steps: float, sampler: str, eta: float, spacing: str, guidance: str) -> "Solver":
        """Return the solver of the values of `solver_controls`; eta is that of the sampler ddim.

        Raises `UserError` for a guidance that is no number.
        """
        name, spaced = (None if value == OWN else value for value in (sampler, spacing))
        try:
            weight = float(guidance) if guidance.strip() else None
        except ValueError:
            raise UserError(f"The guidance w is a number, e.g. 1.5; got {guidance!r:.80}.") from None
        return cls(int(steps), name, float(eta) if name == "ddim" else None, spaced, weight)

    def options(self) -> dict[str, Any]:
        """Return the options that are given, by their names in `ddim.Denoiser.sample`."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Request:
    """What to draw with a solver: so many images of a seed. `labels` is a text, see `labels_of`."""

    model: str
    count: int = 8
    labels: str = ""
    seed: int = 0

    def python(self, models: Models, solver: Solver) -> str:
        """Return the Python that draws the same images."""
        return (
            f"import ddim\n\n{models.python(self.model)}\nimages = {self.call(models, solver)}\n"
            'ddim.pictures.write_grid(images, "samples.png")\n'
        )

    def call(self, models: Models, solver: Solver) -> str:
        """Return the call of `Denoiser.sample` in it."""
        labels = labels_of(self.labels, self.count, models.get(self.model))
        options = {**solver.options(), "seed": self.seed, **({} if labels is None else {"labels": labels})}
        return f"model.sample({self.count}, {', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def command(self, solver: Solver, out: str = "samples.png") -> str:
        """Return the command line that draws the same images."""
        flags = {"count": self.count, **solver.options(), "seed": self.seed}
        words = [f"--{name}={value}" for name, value in flags.items()]
        labels = [f"--labels={self.labels.replace(' ', '')}"] if self.labels.strip() else []
        return shlex.join(["ddim", "sample", self.model, *words, *labels, "--backend=torch", f"--out={out}"])


@dataclass(frozen=True)
class Frame:
    """One state of a trajectory: x_t and the predicted x_0, (N, C, H, W) uint8."""

    at: Level
    x: Tensor
    x0: Tensor


@dataclass(frozen=True)
class Drawn:
    """Images with the way to them.

    Attributes:
        images: (N, C, H, W) float32 in [-1, 1].
        levels: all that the sampler visited.
        frames: at most `MOST_FRAMES` of them, the first and the last included.
        calls: number of network calls for each image; a guided one counts twice.
        method: in words.
        stochastic: whether the sampler injects noise.
        guidance: the weight that was used.
    """

    images: Tensor
    levels: list[Level]
    frames: list[Frame]
    calls: int
    seconds: float
    method: str
    stochastic: bool
    guidance: float


def draw(model: Denoiser, request: Request, solver: Solver) -> Drawn:
    """Return the images of `Denoiser.sample` with the states between.

    Raises:
        UserError: a count out of range, or what `Denoiser.sample` refuses.
    """
    if not 1 <= request.count <= MOST_IMAGES:
        raise UserError(f"The page draws 1 to {MOST_IMAGES} images; `ddim sample` draws any number.")
    options = {name: value for name, value in solver.options().items() if name != "guidance"}
    preset = model.preset(**options)
    method, levels = (model.sampling.resolve if preset is None else preset.resolve)(
        model.schedule, **({} if preset else options)
    )
    weight, interval = guidance_of(preset, solver.guidance, None)
    labels = labels_of(request.labels, request.count, model)
    if labels is None and model.classes is not None:
        labels = [i % model.classes for i in range(request.count)]
    denoise = model.denoise(labels, weight, guidance_interval=interval)
    guided = EVERYWHERE if interval is None else interval
    calls, first = 0, None

    def watched(x: Tensor, at: Level) -> Prediction:
        nonlocal calls, first
        prediction = denoise(x, at)
        calls += 2 if weight != 1 and contains(guided, at) else 1
        first = prediction.x0 if first is None else first
        return prediction

    kept = set(torch.linspace(0, len(levels) - 1, min(MOST_FRAMES, len(levels))).round().int().tolist())
    frames: list[Frame] = []
    noise, began = ImageNoise(request.seed, range(request.count)), time.monotonic()
    with torch.no_grad(), evaluating(model.network):
        drawn = noise(torch.empty(request.count, *model.shape, device=model.device, dtype=model.image_dtype))
        x = start(levels[0], drawn)
        steps = trajectory(method, watched, x, levels, noise, model.schedule)
        for i, after in enumerate(steps):
            if i in kept:  # the first prediction in a step is that of x at its start
                frames.append(Frame(levels[i], to_uint8(x.cpu()), to_uint8((x if first is None else first).cpu())))
            x, first = after, None
    seconds = time.monotonic() - began
    images = x.float().cpu().clamp(-1, 1)
    if not images.isfinite().all():
        raise UserError("The images are NaN: the model's weights are broken; train it or copy it again.")
    frames.append(Frame(levels[-1], to_uint8(images), to_uint8(images)))
    words = model.describe_sampling(solver.guidance is None, **options)
    return Drawn(images, levels, frames, calls, seconds, words, method.stochastic, weight)


def way(model: Denoiser, drawn: Drawn) -> str:
    """Return all frames of a trajectory as HTML, of which the last one is shown."""
    count = len(drawn.frames)
    parts = []
    for i, frame in enumerate(drawn.frames):
        t = f"t = {float(frame.at.t):.4g}"
        x_t, x0 = figure(frame.x, f"x_t at {t}"), figure(frame.x0, f"predicted x0 at {t}")
        parts.append(f'<div class="frames"{of_frame(i, count)}>{x_t}{x0}</div>')
    return "".join(parts)


def log_snr_curve(model: Denoiser, drawn: Drawn) -> str:
    """Return the log-SNR of the schedule against t, with the timesteps that the sampler visited."""
    times, values, N = model.schedule.times.tolist(), model.schedule.log_snr.tolist(), model.schedule.N
    curve = [(times[i], values[i]) for i in (*range(1, N, max(1, N // 200)), N)]

    def point(at: Level) -> tuple[float, float] | None:
        value = float((at.alpha / at.sigma).log() * 2)
        return (float(at.t), value) if abs(value) < float("inf") else None

    dots = [dot for dot in map(point, drawn.levels) if dot is not None]
    frames = [point(frame.at) for frame in drawn.frames]
    line = {"log-SNR": [one for one in curve if abs(one[1]) < float("inf")]}
    return chart(line, "time t", "log-SNR of x_t", dots, frames)


def summary(drawn: Drawn) -> str:
    """Return the method, the calls and the seconds in one sentence."""
    return f"{drawn.method}: {counted(drawn.calls, 'network call')} in {drawn.seconds:.2f} seconds."


def request_controls(models: Models) -> list[Any]:
    """Return the widgets of a `Request`, in the order of its fields."""
    return [
        gr.Dropdown(models.names, label="Model", info="The network ε_θ with its noise schedule ᾱ_t (DDIM, Eq. 4)."),
        gr.Slider(1, MOST_IMAGES, 8, step=1, label="Images", info="Number of images, each with its own x_T."),
        gr.Textbox(
            label="Labels",
            placeholder="3,1,4,1",
            info="Class c of each image in ε_θ(x_t, t, c); -1 is any. Empty: all classes in turn.",
        ),
        gr.Number(
            0, precision=0, label="Seed", info="Draws x_T ~ N(0, I) and the noise z of each step (DDIM, Eq. 12)."
        ),
    ]


def solver_controls(steps: int, sampler: str = OWN) -> list[Any]:
    """Return the widgets of a `Solver`, in the order of its fields."""
    scale = "Noise in each step (DDIM, Eq. 16), for the sampler ddim: 0 is DDIM, deterministic, and 1 is DDPM."
    controls = [
        gr.Slider(1, 1000, steps, step=1, label="Steps S", info="Length of τ, at most T (DDIM, section 4.2)."),
        gr.Dropdown(
            [OWN, *samplers.names()],
            value=sampler,
            label="Sampler",
            info="The step from x_t to x_s; ddim is Eq. 12 of DDIM. The model's own may be a preset for S calls.",
        ),
        gr.Slider(0, 1, 0, step=0.05, label="η", info=scale, interactive=sampler == "ddim"),
        gr.Dropdown(
            [OWN, *timesteps.names()],
            value=OWN,
            label="Spacing",
            info="How the times τ are chosen from 0 to T (DDIM, appendix D.2).",
        ),
        gr.Textbox(
            label="Guidance w",
            placeholder="1",
            info="ε = ε_u + w (ε_c - ε_u) (arXiv 2207.12598, Eq. 6). Empty: 1, or the preset's own.",
        ),
    ]
    controls[1].change(lambda name: gr.update(interactive=name == "ddim"), controls[1], controls[2], queue=False)
    return controls


def tab(models: Models) -> tuple[Callable[..., Any], list[Any], list[Any]]:
    """Build the tab; return what draws the first images of a page, with its inputs and outputs."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            first, *request = request_controls(models)
            controls = solver_controls(models.get(models.names[0]).sampling.steps)
            button = gr.Button("Draw", variant="primary")
        with gr.Column(scale=3, min_width=280):
            line = gr.HTML(elem_classes="ddim", elem_id="sample-line")
            at = gr.Slider(
                0,
                1,
                1,
                step=1,
                label="State i of the trajectory",
                info="x_T at the left, x_0 at the right; x0 by Eq. 9.",
            )
            frames = gr.HTML(elem_classes="ddim", elem_id="sample-way")
            curve = gr.HTML(elem_classes="ddim", elem_id="sample-curve")
            with gr.Accordion("The same in Python and on the command line", open=False):
                python = gr.Code(language="python", label="Python", interactive=False, elem_id="sample-python")
                command = gr.Code(language="shell", label="Command line", interactive=False)

    @sentences
    def handle(*values: Any) -> tuple[Any, ...]:
        name, count, labels, seed = values[:4]
        wanted, solver = Request(name, int(count), labels, seed_of(seed)), Solver.of(*values[4:])
        model = models.get(name)
        drawn = draw(model, wanted, solver)
        last = len(drawn.frames) - 1
        return (
            paragraph(summary(drawn)),
            gr.update(maximum=last, value=last),
            way(model, drawn),
            log_snr_curve(model, drawn),
            wanted.python(models, solver),
            wanted.command(solver),
        )

    begun: dict[Denoiser, tuple[Any, ...]] = {}  # the same for every page, until the weights change

    def begin(*values: Any) -> tuple[Any, ...]:
        model = sentences(models.get)(values[0])
        if model not in begun:
            begun.clear()
            begun[model] = handle(*values)
        return begun[model]

    inputs, outputs = [first, *request, *controls], [line, at, frames, curve, python, command]
    button.click(handle, inputs, outputs, api_name="sample", **NETWORK)
    first.change(sentences(lambda name: models.get(name).sampling.steps), first, controls[0], **QUICK)
    for place in ("sample-way", "sample-curve"):
        at.change(None, at, None, js=SHOW_FRAME % place)
    return begin, inputs, outputs


def seed_of(number: float | None) -> int:
    """Return the seed in its widget. Raises `UserError` if it is empty."""
    if number is None:
        raise UserError("The seed is empty; give a whole number from 0 to 2^64 - 1.")
    return int(number)
