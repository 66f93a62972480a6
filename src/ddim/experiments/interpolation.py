"""From one image to another: DDIM's images of the noises on the arc between (DDIM, section 5.3, Figure 6)."""

from typing import Any

import torch
from safetensors.torch import save as to_bytes

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.edit.interpolate import interpolate, line
from ddim.experiments.cost import affordable, batch_seconds, cut, reachable
from ddim.experiments.piece import Setup
from ddim.files import write_bytes
from ddim.noise import ImageNoise
from ddim.samplers import DDIM

ROWS, COLUMNS = 6, 11  # pairs of noises, and images from the one to the other
FILES = ("interpolation",)
SEED = 0
STEPS = (50, 20, 10)


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the picture takes."""
    return float(ROWS * COLUMNS * min(STEPS[0], model.schedule.T))


@torch.no_grad()
def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw `samples/interpolation.safetensors`, (rows, columns, C, H, W) uint8.

    In a row the class is that of the row, if the model has classes, so that the noise alone changes.

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take; it cuts the steps.

    Returns:
        The steps, rows, columns and the seed of the noises at the ends.
    """
    model = setup.model
    call = batch_seconds(model, ROWS * COLUMNS, seconds)
    choices = reachable(STEPS, model.schedule.T)
    steps = affordable(choices, lambda S: S * call, seconds)
    _, walk = model.sampling.resolve(model.schedule, steps, "ddim")
    ends = ImageNoise(SEED, range(2 * ROWS))(torch.empty(2 * ROWS, *model.shape))
    xT = torch.stack([line(one, other, COLUMNS) for one, other in zip(ends[::2], ends[1::2], strict=True)])
    labels = None
    if model.classes is not None:
        labels = (torch.arange(ROWS) % model.classes).repeat_interleave(COLUMNS)
    denoise = model.denoise(labels)
    drawn = interpolate(DDIM(), denoise, xT.to(model.device, model.dtype), walk, schedule=model.schedule)
    images = to_uint8(drawn.float().cpu())
    write_bytes(setup.folder / "samples/interpolation.safetensors", to_bytes({"images": images}))
    return {
        "steps": steps,
        "rows": ROWS,
        "columns": COLUMNS,
        "seed": SEED,
        "cut": cut(seconds, [f"from {choices[0]} to {steps} steps"] if steps != choices[0] else []),
    }
