"""Two galleries from the same starting noise: DDIM in few steps, and DDPM in as many as can be afforded."""

import time
from typing import Any

from safetensors.torch import save as to_bytes

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup
from ddim.files import write_bytes
from ddim.sampling import DEFAULT_SPACING

COUNTS = (100, 64, 36)  # images: all of them squares, for the grid
DDIM_STEPS = 50
SEED = 0
FILES = ("ddim", "ddpm")  # in samples/


def calls(model: Denoiser) -> float:
    """Network calls on a single image that both galleries take."""
    return float(COUNTS[0] * (model.schedule.T + min(DDIM_STEPS, model.schedule.T)))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw `samples/ddim.safetensors` (eta = 0, S = 50) and `samples/ddpm.safetensors` (eta = 1, S = T).

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take: first the images become fewer, then the steps of DDPM.

    Returns:
        Of each gallery its steps, eta, seconds and network calls; under "cut" what the limit took away.
    """
    model, T = setup.model, setup.model.schedule.T
    wanted = (COUNTS[0], T)
    choices = [(count, T) for count in COUNTS] + [(COUNTS[-1], S) for S in (500, 200, 100, 50, 20, 10) if S < T]
    call = batch_seconds(model, COUNTS[0], seconds) / COUNTS[0]
    count, steps = affordable(choices, lambda c: c[0] * call * (c[1] + min(DDIM_STEPS, c[1])), seconds)
    return {
        "spacing": model.sampling.spacing if model.sampling.sampler == "ddim" else DEFAULT_SPACING,
        "seed": SEED,
        "ddim": _draw(setup, "ddim", 0.0, min(DDIM_STEPS, steps), count),
        "ddpm": _draw(setup, "ddpm", 1.0, steps, count),
        "cut": cut(seconds, _changes(wanted, (count, steps))),
    }


def _draw(setup: Setup, name: str, eta: float, steps: int, count: int) -> dict[str, Any]:
    began = time.perf_counter()
    images = setup.model.sample(count, steps=steps, sampler="ddim", eta=eta, seed=SEED, batch_size=count)
    seconds = time.perf_counter() - began
    write_bytes(setup.folder / "samples" / f"{name}.safetensors", to_bytes({"images": to_uint8(images)}))
    return {"eta": eta, "steps": steps, "count": count, "calls": steps, "seconds": seconds}


def _changes(wanted: tuple[int, int], got: tuple[int, int]) -> list[str]:
    pairs = zip(("images", "DDPM steps"), wanted, got, strict=True)
    return [f"from {full} to {few} {what}" for what, full, few in pairs if few != full]
