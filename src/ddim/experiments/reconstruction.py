"""Held-out images, encoded and decoded again in S steps (DDIM, section 5.4 and Table 2)."""

from typing import Any

import torch
from safetensors.torch import save as to_bytes

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.evaluate import reconstruction
from ddim.evaluate.batches import batches, spread_rows
from ddim.evaluate.reconstruction import STEPS
from ddim.experiments.cost import affordable, batch_seconds, cut, reachable
from ddim.experiments.piece import Setup
from ddim.files import write_bytes

COUNTS = (256, 64, 16)  # images
FILES = ("reconstruction",)
LADDER = "linear"  # the paper's for all data but CIFAR-10 (appendix D.2); its other one ends at 0.8 T
SHOWN = 8  # images


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the table and the picture take."""
    return float(2 * (COUNTS[0] + SHOWN) * sum(reachable(STEPS, model.schedule.T)))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Measure the errors, and draw `samples/reconstruction.safetensors`: images, and what became of them.

    It holds "images" (1 + R, N, C, H, W) uint8, the originals before those of each S.

    Args:
        setup: whose model encodes and decodes, and which images were held out.
        seconds: about how long it may take; the images become fewer and the longest S are left out.

    Returns:
        For each S the mean square error of a number of the image, in units in which images lie in [0, 1].
    """
    model, images, every = setup.model, setup.held_out, reachable(STEPS, setup.model.schedule.T)
    call = batch_seconds(model, COUNTS[-1], seconds) / COUNTS[-1]
    counts = [count for count in COUNTS if count <= len(images)] or [len(images)]
    choices = [(count, every) for count in counts[:2]]
    choices += [(count, every[:n]) for count in counts[1:] for n in range(len(every) - 1, 1, -1)]  # two at least
    count, steps = affordable(choices, lambda one: 2 * call * (one[0] + SHOWN) * sum(one[1]), seconds)
    rows = reconstruction.measure(model, images, count=count, steps=steps, spacing=LADDER)
    facts = [
        {"steps": S, "error": e.mean, "low": max(e.mean - e.margin, 0), "high": e.mean + e.margin} for S, e in rows
    ]
    some = next(batches(model, images, spread_rows(model, images, min(SHOWN, len(images))), SHOWN))
    drawn = [some.x0]
    for S in steps:
        xT = model.encode(some.x0, steps=S, spacing=LADDER, labels=some.label)
        drawn.append(model.decode(xT, steps=S, spacing=LADDER, labels=some.label))
    pixels = to_uint8(torch.stack(drawn).float().cpu())
    write_bytes(setup.folder / "samples/reconstruction.safetensors", to_bytes({"images": pixels}))
    changes = [f"from {choices[0][0]} to {count} images"] if count != choices[0][0] else []
    changes += [f"to at most {steps[-1]} steps"] if steps != every else []
    return {"count": count, "rows": facts, "cut": cut(seconds, changes)}
