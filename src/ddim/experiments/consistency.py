"""The same noise at different S: one image, more and more finely drawn (DDIM, section 5.2 and Figure 5)."""

from typing import Any

import torch
from safetensors.torch import save as to_bytes

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup
from ddim.files import write_bytes
from ddim.verify.endpoint import distance

COUNT = 8  # images
FILES = ("consistency",)
SEED = 0
STEPS = (10, 20, 50, 100, 200, 500, 1000)


def calls(model: Denoiser) -> float:
    """Network calls on one image, times images, if nothing is cut."""
    return COUNT * sum(_steps(model))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw `samples/consistency.safetensors`, (S, N, C, H, W) uint8: the same x_T by DDIM (eta = 0) at every S.

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take; the longest S are left out.

    Returns:
        For each S the root mean square of the difference to the images of the longest, in units in which images
        lie in [-1, 1]; under "between" the same of images from different noise, the scale to read them on.
    """
    model, every = setup.model, _steps(setup.model)
    call = batch_seconds(model, COUNT, seconds)
    choices = [every[:n] for n in range(len(every), 1, -1)] or [every]
    steps = affordable(choices, lambda some: call * sum(some), seconds)
    drawn = torch.stack([model.sample(COUNT, steps=S, sampler="ddim", eta=0.0, seed=SEED) for S in steps])
    write_bytes(setup.folder / "samples/consistency.safetensors", to_bytes({"images": to_uint8(drawn)}))
    end = drawn[-1]
    apart = (end[:, None] - end).square().mean(dim=(2, 3, 4))  # 0 for an image and itself
    return {
        "seed": SEED,
        "count": COUNT,
        "eta": "0",
        "between": float((apart.sum() / (COUNT * (COUNT - 1))).sqrt()),
        "rows": [{"steps": S, "rms": distance(x, end)} for S, x in zip(steps, drawn, strict=True)],
        "cut": cut(seconds, [f"to at most {steps[-1]} steps"] if steps != every else []),
    }


def _steps(model: Denoiser) -> list[int]:
    T = min(model.schedule.T, STEPS[-1])
    return [*(S for S in STEPS if S < T), T]
