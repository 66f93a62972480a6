"""The editor of one image, pixel by pixel, and what goes between it and the library: the address of a PNG."""

import base64
import html
import io
from collections.abc import Mapping
from importlib import resources
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddim.data.decode import Unreadable, decode
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.pictures import to_uint8
from ddim.studio.models import QUICK, Models, labels_of, sentences
from ddim.text import dimensions

PREFIX = "data:image/png;base64,"
LONGEST = 4_000_000  # letters of an address, far more than an image of 512 × 512 pixels needs
HELP = "The pointer paints; with the keyboard, arrows move the brush and space paints."


def editor(model: Denoiser, label: str, name: str, mode: str = "draw", colour: bool = False) -> gr.HTML:
    """Return the widget, with a black image.

    Args:
        model: its images have the size of this model's.
        label: what it shows; `name` is its id in the page.
        mode: "draw" paints pixels; "mask" makes them unknown.
        colour: whether to choose a colour to paint with; white otherwise.
    """
    brush = '<label>Brush <input name="brush" type="range" min="1" max="8" value="2"></label> '
    erase = '<label><input name="erase" type="checkbox"> erase</label> '
    chosen = '<label>Colour <input name="colour" type="color" value="#ffffff"></label>' if colour else ""
    canvas = f'<canvas tabindex="0" role="application" aria-label="{html.escape(f"{label}. {HELP}")}"></canvas>'
    return gr.HTML(
        blank(model),
        html_template=f"<figure><figcaption>{html.escape(label)}</figcaption>{canvas}{brush}{erase}{chosen}</figure>",
        css_template="canvas { width: 100%; max-width: 336px; touch-action: none; display: block; }",
        js_on_load=resources.files("ddim.studio").joinpath("pixels.js").read_text("utf-8"),
        elem_id=name,
        elem_classes="ddim",
        mode=mode,
    )


def blank(model: Denoiser) -> str:
    """Return a black image of the model's size as an address."""
    return address(torch.zeros(model.shape, dtype=torch.uint8))


def address(image: Tensor, known: Tensor | None = None) -> str:
    """Return an image, (C, H, W) uint8, with its known pixels, (H, W) bool, as the address of a PNG."""
    colours = image.expand(3, *image.shape[1:]) if len(image) == 1 else image[:3]
    alpha = torch.full_like(colours[:1], 255) if known is None else known[None].to(torch.uint8) * 255
    return PREFIX + base64.b64encode(png(torch.cat([colours, alpha]))).decode()


def png(image: Tensor) -> bytes:
    """Return an image, (C, H, W) uint8 with 1, 3 or 4 channels, as the content of a PNG."""
    pixels = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def read(value: Any, model: Denoiser) -> tuple[Tensor, Tensor]:
    """Return the image in an address, (C, H, W) in [-1, 1], and its known pixels, (H, W) bool.

    Raises:
        UserError: no address of a PNG, an image of another size, or a model whose images are no pictures.
    """
    channels, height, width = model.shape
    if channels not in (1, 3):
        raise UserError(
            f"This model has images of {channels} channels, and a picture 1 or 3; call ddim.edit in Python."
        )
    try:
        if not value.startswith(PREFIX) or len(value) > LONGEST:
            raise ValueError("no address of a PNG")
        content = io.BytesIO(base64.b64decode(value[len(PREFIX) :], validate=True))
        with Image.open(content, formats=("PNG",)) as picture:
            if picture.size == (width, height):
                pixels = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1)
            size = picture.size
    except Exception as error:  # of another type, broken base64, and whatever Pillow raises
        raise UserError("The page sent no image; upload or draw it again.") from error
    if size != (width, height):
        raise UserError(
            f"The image has {size[1]} × {size[0]} pixels and the model's {dimensions(model.shape[1:])}; draw it again."
        )
    return pixels[:channels].float() / 127.5 - 1, pixels[3] > 0


def uploaded(path: str, model: Denoiser) -> str:
    """Return the central square of an uploaded image, in the size and colours of the model, as an address.

    Raises:
        UserError: a file that is no image, or a model whose images are not square.
    """
    channels, height, width = model.shape
    if height != width:
        raise UserError(f"An uploaded image is square, and the model's are {dimensions((height, width))}; draw one.")
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            pixels = torch.from_numpy(decode(file, height).pixels)
    except (Unreadable, OSError) as error:
        reason = f"it {error}" if isinstance(error, Unreadable) else error.strerror
        raise UserError(f"The file cannot be used: {reason}; upload a PNG, JPEG, WebP, BMP or TIFF.") from error
    if channels == 1:
        grey = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).convert("L")
        pixels = torch.from_numpy(np.array(grey))[None]
    return address(pixels)


def drawn(model: Denoiser, seed: float | None, label: str = "") -> str:
    """Return an image of the model, image 0 of a seed and of a class, see `label_of`, as an address.

    Raises `UserError` as `Denoiser.sample` does.
    """
    labels = labels_of(label, 1, model)
    return address(to_uint8(model.sample(1, seed=int(seed or 0), labels=labels, progress=False))[0])


def downloads(images: Mapping[str, Tensor]) -> str:
    """Return links to images, name -> (C, H, W) uint8, that the browser saves under these names, as HTML."""
    addresses = {name: PREFIX + base64.b64encode(png(image)).decode() for name, image in images.items()}
    links = [f'<a download="{name}" href="{place}">{name}</a>' for name, place in addresses.items()]
    return f"<p>Save {', '.join(links)}.</p>"


def upload_button(models: Models, model: gr.Dropdown, target: gr.HTML, text: str = "Upload") -> gr.UploadButton:
    """Return a button that puts an uploaded image into an editor."""
    button = gr.UploadButton(text, size="sm")
    put = sentences(lambda path, name: uploaded(path, models.get(name)))
    button.upload(put, [button, model], target, api_visibility="private", **QUICK)
    return button
