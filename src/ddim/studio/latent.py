"""The tab *Latent*: the noise of images, the way between two or four, and what encoding and decoding loses."""

import shlex
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim.denoiser import Denoiser
from ddim.edit import grid, line
from ddim.errors import number
from ddim.pictures import to_uint8
from ddim.studio import pixels
from ddim.studio.compare import rms
from ddim.studio.models import NETWORK, QUICK, Models, class_widget, label_of, sentences
from ddim.studio.views import figure, paragraph

CORNERS = "ABCD"
MOST_COLUMNS = 12
REFINED = 3  # iterations of the refined inversion


@dataclass(frozen=True)
class Way:
    """How images are encoded and decoded: with DDIM, eta = 0.

    Attributes:
        columns: images from left to right, the ends included; between four also from top to bottom.
        label: class of all images, -1 for any; None for a model without classes.
    """

    model: str
    steps: int = 20
    columns: int = 8
    label: int | None = None

    def labels(self, count: int) -> list[int] | None:
        """Return the class of each of `count` images."""
        return None if self.label is None else [self.label] * count

    def python(self, models: Models, count: int) -> str:
        """Return the Python that draws the same way between the files of `count` images."""
        names, label = [f"{name}.png" for name in CORNERS[:count].lower()], self.label
        labels = "" if label is None else f", labels=[{label}] * len(%s)"
        codes = (
            f"codes = ddim.edit.line(ends[0], ends[1], {self.columns})"
            if count == 2
            else f"codes = ddim.edit.grid(ends, {self.columns}, {self.columns}).flatten(0, 1)"
        )
        options = f'steps={self.steps}, sampler="ddim", eta=0.0'
        return f"""import ddim
import numpy as np
import torch
from PIL import Image

{models.python(self.model)}
files = [np.array(Image.open(name).convert("RGB")) for name in {names!r}]
x0 = torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2)[:, : model.shape[0]].float() / 127.5 - 1
ends = model.encode(x0{labels and labels % "x0"}, {options})
{codes}
images = model.decode(codes{labels and labels % "codes"}, {options}).clamp(-1, 1)
ddim.pictures.write_grid(images, "interpolation.png", columns={self.columns})
"""

    def command(self, count: int) -> str:
        """Return the command line that draws the same way."""
        names = [f"{name}.png" for name in CORNERS[:count].lower()]
        flags = [f"--columns={self.columns}", f"--steps={self.steps}"]
        flags += [] if self.label is None else [f"--labels={self.label}"]
        return shlex.join(["ddim", "interpolate", self.model, *names, *flags, "--out=interpolation.png"])


def between(model: Denoiser, x0: Tensor, wanted: Way) -> Tensor:
    """Return the images between two or four, (N, C, H, W) uint8, row by row (DDIM, section 5.3).

    Args:
        x0: (2 or 4, C, H, W) in [-1, 1].

    Raises:
        UserError: what `Denoiser.encode` or `ddim.edit.line` refuses.
    """
    columns = number("The number of images", wanted.columns, int, 2, MOST_COLUMNS)
    options: Any = {"steps": wanted.steps, "sampler": "ddim", "eta": 0.0}
    ends = model.encode(x0, labels=wanted.labels(len(x0)), **options)
    codes = line(ends[0], ends[1], columns) if len(x0) == 2 else grid(ends, columns, columns).flatten(0, 1)
    images = model.decode(codes, labels=wanted.labels(len(codes)), **options)
    return to_uint8(images.float().cpu())


@dataclass(frozen=True)
class RoundTrip:
    """Images that were encoded and decoded.

    Attributes:
        name: of the inversion.
        images: (N, C, H, W) uint8.
        calls: network calls in both directions.
        error: root of the mean square of the difference to the images, in [-1, 1].
    """

    name: str
    images: Tensor
    calls: int
    error: float


def round_trips(model: Denoiser, x0: Tensor, wanted: Way) -> list[RoundTrip]:
    """Encode and decode images by each inversion. Raises `UserError` as `Denoiser.encode` does."""
    S, labels, trips = wanted.steps, wanted.labels(len(x0)), []
    kinds: list[tuple[str, dict[str, Any], bool, int]] = [
        ("DDIM's steps, reversed (Eq. 13)", {}, False, 2 * S),
        (f"refined by {REFINED} iterations of each step", {"refine": REFINED}, False, (2 + REFINED) * S),
        ("exact (O-BELM)", {"exact": True}, True, 2 * S),
    ]
    for name, options, exact, calls in kinds:
        code = model.encode(x0, labels=labels, steps=S, **options)
        images = model.decode(code, labels=labels, exact=exact, steps=S).cpu()
        trips.append(RoundTrip(name, to_uint8(images.float()), calls, rms(images, x0.to(images))))
    return trips


def view(x0: Tensor, way: Tensor, columns: int, trips: list[RoundTrip]) -> str:
    """Return the way and the round trips as HTML."""
    parts = [figure(way, "On the arc between the noises x_T (DDIM, Eq. 67)", columns)]
    for trip in trips:
        both = torch.cat([to_uint8(x0), trip.images])
        error = f"rms error {trip.error:.2g}, {trip.calls} network calls"
        parts.append(f"<div>{figure(both, f'{trip.name}: {error}', len(x0))}</div>")
    rows = "".join(parts[1:])
    caption = paragraph("Encoded and decoded: the images above, what comes back below.")
    return f'{parts[0]}{caption}<div class="frames">{rows}</div>'


def tab(models: Models) -> None:
    """Build the tab."""
    model = models.get(models.names[0])
    gr.Markdown(
        "Draw, upload or sample two or four images. The encoding is DDIM's ODE towards noise (DDIM, section 4.3)."
    )
    with gr.Row():
        name = gr.Dropdown(models.names, label="Model", info="The network ε_θ; a new choice clears the images.")
        steps = gr.Slider(
            2, 200, 20, step=1, label="Steps S", info="In each direction; the error falls with S (Table 2)."
        )
        columns = gr.Slider(2, MOST_COLUMNS, 8, step=1, label="Images on the way", info="The ends included.")
        label = class_widget()
        four = gr.Checkbox(label="Between four", info="A, B above and C, D below (DDIM, Figure 6).")
    editors: list[gr.HTML] = []
    with gr.Row():
        for i, corner in enumerate(CORNERS):
            with gr.Column(min_width=150, visible=i < 2) as column:
                editors.append(pixels.editor(model, f"Image {corner}", f"latent-{corner}", colour=model.shape[0] == 3))
                pixels.upload_button(models, name, editors[i], f"Upload {corner}")
                seed = gr.Number(i, precision=0, label=f"Seed of {corner}", info="Image 0 of this seed.")
                sampled = gr.Button(f"Sample {corner}", size="sm")
                sampled.click(
                    sentences(lambda name, seed, text: pixels.drawn(models.get(name), seed, text)),
                    [name, seed, label],
                    editors[i],
                    api_visibility="private",
                    **NETWORK,
                )
            if i >= 2:
                four.change(lambda shown: gr.update(visible=shown), four, column, queue=False, api_visibility="private")
    button = gr.Button("Interpolate", variant="primary")
    result = gr.HTML(elem_classes="ddim", elem_id="latent-result")
    with gr.Accordion("The same in Python and on the command line, with the images saved as a.png, ...", open=False):
        files = gr.HTML(elem_classes="ddim")
        python = gr.Code(language="python", label="Python", interactive=False)
        command = gr.Code(language="shell", label="Command line", interactive=False)

    @sentences
    def handle(name: str, S: float, columns: float, label: str, four: bool, *values: Any) -> tuple[str, ...]:
        model, count = models.get(name), 4 if four else 2
        x0 = torch.stack([pixels.read(value, model)[0] for value in values[:count]])
        wanted = Way(name, int(S), int(columns), label_of(label, model))
        way, trips = between(model, x0, wanted), round_trips(model, x0, wanted)
        saved = pixels.downloads({f"{letter.lower()}.png": x for letter, x in zip(CORNERS, to_uint8(x0), strict=False)})
        return view(x0, way, wanted.columns, trips), saved, wanted.python(models, count), wanted.command(count)

    inputs = [name, steps, columns, label, four, *editors]
    button.click(handle, inputs, [result, files, python, command], api_name="latent", **NETWORK)
    clear = sentences(lambda name: [pixels.blank(models.get(name))] * len(editors))
    name.change(clear, name, editors, api_visibility="private", **QUICK)
