"""The tab *Compare*: two ways to make images from the same noise, how far apart they are, and how good each is."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from torch import Tensor

from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.pictures import to_uint8
from ddim.studio.models import NETWORK, Models, sentences
from ddim.studio.quality import measure, standard
from ddim.studio.sample import Drawn, Request, Solver, draw, request_controls, seed_of, solver_controls, summary
from ddim.studio.views import figure, paragraph

MOST_MEASURED = 512  # images
REFERENCE = Solver(100, "unipc", None, "log-snr")
"""It solves the probability flow ODE: with 100 steps its error is far below that of the solvers compared."""


@dataclass(frozen=True)
class Compared:
    """Two results from the same noise.

    Attributes:
        first, second: the results.
        distance: root of the mean square of their difference, over all pixels, for images in [-1, 1].
        errors: the same of each result to the solution of its ODE from this noise; None for a sampler that injects
            noise, and for a preset that brings its own guidance.
    """

    first: Drawn
    second: Drawn
    distance: float
    errors: tuple[float | None, float | None]


def compare(model: Denoiser, request: Request, solvers: tuple[Solver, Solver]) -> Compared:
    """Draw the images of a request with both solvers. Raises `UserError` as `draw` does."""
    first, second = (draw(model, request, solver) for solver in solvers)
    solutions: dict[float | None, Tensor] = {}  # guidance changes the ODE

    def error(solver: Solver, drawn: Drawn) -> float | None:
        if drawn.stochastic or (solver.guidance is None and drawn.guidance != 1):
            return None
        if drawn.guidance not in solutions:
            reference = Solver(**{**vars(REFERENCE), "guidance": drawn.guidance})
            solutions[drawn.guidance] = draw(model, request, reference).images
        return rms(drawn.images, solutions[drawn.guidance])

    errors = error(solvers[0], first), error(solvers[1], second)
    return Compared(first, second, rms(first.images, second.images), errors)


def rms(a: Tensor, b: Tensor) -> float:
    """Return the root of the mean square of a - b."""
    return float((a - b).square().mean().sqrt())


def qualities(model: Denoiser, request: Request, solvers: tuple[Solver, Solver], count: int) -> tuple[str, str, str]:
    """Return the metrics of `count` samples by each solver as text, and what they are or why they are missing."""
    if count < 1:
        return "", "", ""
    try:
        by = standard(request.model, model)
    except UserError as error:
        return "", "", str(error)
    first, second = (measure(model, solver, request.seed, count, by).describe() for solver in solvers)
    return first, second, by.describe(model)


def view(compared: Compared, metrics: tuple[str, str, str] = ("", "", "")) -> str:
    """Return both grids of images side by side with their metrics, see `qualities`, and their distance, as HTML."""
    parts, (*each, about) = [], metrics
    both = (compared.first, compared.second)
    for name, drawn, error, metric in zip("AB", both, compared.errors, each, strict=True):
        near = "no ODE to compare with" if error is None else f"rms distance to the ODE's solution {error:.3g}"
        caption = f"{name}: {summary(drawn)[:-1]}; {near}."
        parts.append(f"<div>{figure(to_uint8(drawn.images), caption)}{paragraph(metric)}</div>")
    distance = f"The rms distance between A and B is {compared.distance:.3g}, for pixels from -1 to 1."
    return f'{paragraph(distance)}{paragraph(about)}<div class="frames">{"".join(parts)}</div>'


def tab(models: Models) -> None:
    """Build the tab."""
    gr.Markdown(
        "Both sides start from the same x_T. The solution of the ODE (DDIM, Eq. 14) is what a deterministic sampler "
        "approaches as S grows."
    )
    with gr.Row():
        request = request_controls(models)
    number = gr.Slider(
        0,
        MOST_MEASURED,
        32,
        step=16,
        label="Measured images",
        info="Drawn by each side for its metrics; with few, their intervals are wide. 0: no metrics.",
    )
    with gr.Row():
        sides = []
        for name, steps, sampler in (("A", 10, "ddim"), ("B", 10, "unipc")):
            with gr.Column(min_width=280), gr.Group():
                gr.Markdown(f"&nbsp; **{name}**")
                sides.append(solver_controls(steps, sampler))
    button = gr.Button("Compare", variant="primary")
    result = gr.HTML(elem_classes="ddim", elem_id="compare-result")
    with gr.Accordion("The same in Python and on the command line", open=False):
        python = gr.Code(language="python", label="Python", interactive=False)
        command = gr.Code(language="shell", label="Command line", interactive=False)

    @sentences
    def handle(*values: Any) -> tuple[str, str, str]:
        name, count, labels, seed, measured = values[:5]
        half = 5 + (len(values) - 5) // 2
        solvers = Solver.of(*values[5:half]), Solver.of(*values[half:])
        wanted, model = Request(name, int(count), labels, seed_of(seed)), models.get(name)
        if solvers[0] == solvers[1]:
            raise UserError("A and B are the same; change one of them.")
        compared = compare(model, wanted, solvers)
        metrics = qualities(model, wanted, solvers, min(int(measured), MOST_MEASURED))
        return view(compared, metrics), python_of(models, wanted, solvers), commands_of(wanted, solvers)

    inputs = [*request, number, *sides[0], *sides[1]]
    button.click(handle, inputs, [result, python, command], api_name="compare", **NETWORK)


def python_of(models: Models, request: Request, solvers: tuple[Solver, Solver]) -> str:
    """Return the Python that draws both and prints their distance."""
    draws = [request.call(models, solver) for solver in solvers]
    return (
        f"import ddim\n\n{models.python(request.model)}\na = {draws[0]}\nb = {draws[1]}\n"
        "print(float((a - b).square().mean().sqrt()))\n"
        'ddim.pictures.write_grid(a, "a.png")\nddim.pictures.write_grid(b, "b.png")\n'
    )


def commands_of(request: Request, solvers: tuple[Solver, Solver]) -> str:
    """Return the two command lines."""
    return "\n".join(request.command(solver, out) for solver, out in zip(solvers, ("a.png", "b.png"), strict=True))
