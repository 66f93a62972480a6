"""The tab *Restore*: brush away a part of an image, and draw samples that agree with the rest."""

import shlex
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ddim.denoiser import Denoiser
from ddim.edit import Mask, methods, restore
from ddim.errors import UserError
from ddim.pictures import to_uint8
from ddim.studio import pixels
from ddim.studio.models import NETWORK, QUICK, Models, class_widget, label_of, sentences
from ddim.studio.sample import seed_of
from ddim.studio.views import figure, paragraph

MOST_SAMPLES = 8


@dataclass(frozen=True)
class Restoration:
    """What to draw: samples of p(x_0 | y) for the image without its unknown pixels; see `ddim.edit.restore`."""

    model: str
    method: str = "ddnm"
    steps: int = 20
    count: int = 4
    label: int | None = None
    seed: int = 0

    def python(self, models: Models) -> str:
        """Return the Python that draws the same samples from the files of the image and of the mask."""
        labels = "" if self.label is None else f", labels=[{self.label}]"
        options = f"method={self.method!r}, steps={self.steps}, seed={self.seed}, count={self.count}{labels}"
        return f"""import ddim
import numpy as np
import torch
from PIL import Image

{models.python(self.model)}
x0 = torch.from_numpy(np.array(Image.open("image.png").convert("RGB"))).permute(2, 0, 1)
x0 = x0[None, : model.shape[0]].float() / 127.5 - 1
known = ddim.edit.Mask(torch.from_numpy(np.array(Image.open("mask.png").convert("L"))) > 0)
samples = ddim.edit.restore(model, known.forward(x0), known, {options})[0]
ddim.pictures.write_grid(samples, "restored.png", columns=len(samples))
"""

    def command(self) -> str:
        """Return the command line that draws the same samples."""
        flags = {"method": self.method, "steps": self.steps, "count": self.count, "seed": self.seed}
        flags |= {} if self.label is None else {"labels": self.label}
        words = [f"--{name}={value}" for name, value in flags.items()]
        return shlex.join(["ddim", "restore", self.model, "image.png", "--mask=mask.png", *words, "--out=restored.png"])


def samples(model: Denoiser, x0: Tensor, known: Tensor, wanted: Restoration) -> Tensor:
    """Return the samples, (count, C, H, W) in [-1, 1].

    Args:
        x0: (C, H, W) in [-1, 1].
        known: (H, W) bool.

    Raises:
        UserError: no pixel is unknown, or none is known, or what `ddim.edit.restore` refuses.
    """
    if known.all():
        raise UserError("All pixels are known; brush over those to fill in.")
    mask = Mask(known)
    return restore(
        model,
        mask.forward(x0[None]),
        mask,
        method=wanted.method,
        steps=wanted.steps,
        seed=wanted.seed,
        count=wanted.count,
        labels=None if wanted.label is None else [wanted.label],
        progress=False,
    )[0]


def view(x0: Tensor, known: Tensor, found: Tensor) -> str:
    """Return the measurement, the samples, and how far the samples are from the image, as HTML."""
    y = torch.where(known, x0, 0)
    unknown = (~known).expand_as(x0)
    spread = float(found.std(0)[unknown].mean()) if len(found) > 1 else 0.0
    error = float((found - x0)[:, unknown].square().mean().sqrt())
    caption = "y (unknown pixels in grey), then the samples"
    line = (
        f"On the {int((~known).sum())} unknown pixels: rms distance of the samples to the image {error:.3g}, their "
        f"standard deviation {spread:.3g}. All other pixels are those of the image."
    )
    return figure(to_uint8(torch.cat([y[None], found])), caption, len(found) + 1) + paragraph(line)


def tab(models: Models) -> None:
    """Build the tab."""
    model = models.get(models.names[0])
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            name = gr.Dropdown(models.names, label="Model", info="The prior p(x_0); a new choice clears the image.")
            canvas = pixels.editor(model, "Brush away what is not known", "restore-image", mode="mask")
            with gr.Row():
                pixels.upload_button(models, name, canvas, "Upload an image")
                sampled = gr.Button("Sample an image", size="sm")
            image_seed = gr.Number(0, precision=0, label="Seed of the sampled image", info="Image 0 of this seed.")
        with gr.Column(scale=3, min_width=280):
            method = gr.Dropdown(
                list(methods),
                value="ddnm",
                label="Method",
                info="How y = A x_0 enters each predicted x0: pigdm is the most accurate, and 8 times slower.",
            )
            steps = gr.Slider(
                2, 200, 20, step=1, label="Steps S", info="Length of τ, with DDIM at η = 1 (Eqs. 12, 16)."
            )
            count = gr.Slider(
                1, MOST_SAMPLES, 4, step=1, label="Samples", info="Draws of p(x_0 | y), each from its own x_T."
            )
            label = class_widget()
            seed = gr.Number(0, precision=0, label="Seed", info="Draws x_T and the noise z of each step (Eq. 12).")
            button = gr.Button("Restore", variant="primary")
            result = gr.HTML(elem_classes="ddim", elem_id="restore-result")
    with gr.Accordion("The same in Python and on the command line, with these two files", open=False):
        files = gr.HTML(elem_classes="ddim", elem_id="restore-files")
        python = gr.Code(language="python", label="Python", interactive=False)
        command = gr.Code(language="shell", label="Command line", interactive=False)

    @sentences
    def handle(name: str, value: Any, *chosen: Any) -> tuple[str, str, str, str]:
        method, S, count, label, seed = chosen
        model = models.get(name)
        x0, known = pixels.read(value, model)
        wanted = Restoration(name, method, int(S), int(count), label_of(label, model), seed_of(seed))
        found = samples(model, x0, known, wanted)
        saved = pixels.downloads({"image.png": to_uint8(x0), "mask.png": known[None].to(torch.uint8) * 255})
        return view(x0, known, found), saved, wanted.python(models), wanted.command()

    inputs = [name, canvas, method, steps, count, label, seed]
    button.click(handle, inputs, [result, files, python, command], api_name="restore", **NETWORK)
    sampled.click(
        sentences(lambda name, seed, text: pixels.drawn(models.get(name), seed, text)),
        [name, image_seed, label],
        canvas,
        api_visibility="private",
        **NETWORK,
    )
    clear = sentences(lambda name: pixels.blank(models.get(name)))
    name.change(clear, name, canvas, api_visibility="private", **QUICK)
