"""The model as it is sampled by default, held against held-out images."""

from typing import Any

from safetensors.torch import save as to_bytes

from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.evaluate import Classifier, choose, measure
from ddim.evaluate.metrics import largest_draw
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.piece import Setup
from ddim.files import write_bytes

COUNTS = (10000, 5000, 2000, 1000, 500, 200)  # images
FILES = ("evaluation",)
SEED = 0


def calls(model: Denoiser) -> float:
    """Network calls on a single image that the samples take at most."""
    return float(COUNTS[0] * model.sampling.steps)


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Draw `samples/evaluation.safetensors`, (N, C, H, W) uint8, classes in turn, and score them.

    Args:
        setup: whose model is sampled, on which images it learnt and which were held out.
        seconds: about how long it may take; the images become fewer.

    Returns:
        See `ddim.evaluate.Evaluation`.
    """
    model, test = setup.model, setup.held_out
    eye = choose(test.shape, test.name)
    call = batch_seconds(model, 64, seconds) / 64
    limit = max(largest_draw(len(setup.learnt)), eye.dim + 1)  # a floor is made of as many
    enough = [count for count in sorted({min(count, limit) for count in COUNTS}, reverse=True) if count > eye.dim]
    count = affordable(enough, lambda one: call * one * model.sampling.steps, seconds)
    images = to_uint8(model.sample(count, seed=SEED))
    write_bytes(setup.folder / "samples/evaluation.safetensors", to_bytes({"images": images}))
    known = isinstance(eye, Classifier) and len(eye.classes) == model.classes
    labels = [i % model.classes for i in range(count)] if known and model.classes else None
    found = measure(images, test, extractor=eye, real=setup.learnt, labels=labels, seed=SEED)
    return {
        "sampling": model.sampling.describe(),
        **found.to_dict(),
        "cut": cut(seconds, [f"from {enough[0]:,} to {count:,} images"] if count != enough[0] else []),
    }
