"""How near each solver comes to where very many steps lead, for a given number of network calls."""

from typing import Any

from ddim.denoiser import Denoiser
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup
from ddim.model_io import fingerprint
from ddim.verify import endpoint, kept, walks
from ddim.verify.walks import BUDGETS

COUNT = 8  # images
SEED = 0


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the comparison takes, its endpoint with it."""
    return float(COUNT * endpoint.calls(model, walks.walks(model, BUDGETS)))


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Compare all deterministic solvers on all ladders, as `ddim verify RUN` does, and keep what that keeps.

    Args:
        setup: whose model is sampled.
        seconds: about how long it may take; the largest numbers of calls are left out.

    Returns:
        See `ddim.verify.distances.Distances`.
    """
    model, folder = setup.model, setup.folder
    weights, start = fingerprint(folder), endpoint.Start(model, COUNT, SEED)
    reference = kept.endpoint(folder, weights, start)
    call = batch_seconds(model, COUNT, seconds)
    choices = [BUDGETS[:n] for n in range(len(BUDGETS), 0, -1)]
    budgets = affordable(
        choices, lambda some: call * endpoint.calls(model, walks.walks(model, some), reference is None), seconds
    )
    if reference is None:
        reference = start.reference()
        kept.keep_endpoint(folder, weights, start, reference)
    found = endpoint.measure(start, walks.walks(model, budgets), reference)
    return {**found.facts(), "cut": cut(seconds, [f"to {budgets[-1]} calls"] if budgets != BUDGETS else [])}
