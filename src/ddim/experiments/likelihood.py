"""How many bits the model needs for a held-out image: by the variational bound, and exactly, by the flow."""

import math
from typing import Any

from ddim.denoiser import Denoiser
from ddim.evaluate import bound, flow
from ddim.evaluate.intervals import Mean
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup

COUNTS = (256, 64, 32, 16, 8)  # images
BACK = 3  # what a call costs with the way back through the network, in calls
STEPS = flow.STEPS


def calls(model: Denoiser) -> float:
    """Network calls on a single image that both take."""
    return float(COUNTS[0] * _calls())


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Count the bits of held-out images.

    Args:
        setup: whose model, and which images were held out.
        seconds: about how long it may take; the images become fewer.

    Returns:
        Bits per dimension with their 95% intervals, and the terms of the bound by t.
    """
    model, images = setup.model, setup.held_out
    call = batch_seconds(model, COUNTS[-1], seconds) / COUNTS[-1]
    choices = [count for count in COUNTS if count <= len(images)] or [len(images)]
    count = affordable(choices, lambda one: call * one * _calls(), seconds)
    above = bound.measure(model, images, count=count)
    facts: dict[str, Any] = {"count": count, "grey_levels": images.grey_levels}
    terms = above.terms.tolist()  # of L_0, which is that of t = 1, ..., L_T
    rows = [{"t": t + 1, "bits": bits} for t, bits in enumerate(terms[1:-1], 1) if math.isfinite(bits)]
    facts["bound"] = {**_bits(above.bits), "prior": terms[-1], "decoder": terms[0], "rows": rows}
    if model.schedule.alpha_bar[-1] > 0:  # else log-SNR has no end
        exact = flow.measure(model, images, count=count)
        facts["flow"] = {**_bits(exact.bits), "steps": exact.steps, "coarse": exact.halved.mean}
    return {**facts, "cut": cut(seconds, [f"from {choices[0]} to {count} images"] if count != choices[0] else [])}


def _calls() -> float:
    return 1 + bound.TIMES + BACK * flow.STAGES * (STEPS + STEPS // 2)


def _bits(found: Mean) -> dict[str, float]:
    return {"bits": found.mean, "low": found.mean - found.margin, "high": found.mean + found.margin}
