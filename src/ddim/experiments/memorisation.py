"""Whether samples are copies of training images."""

from dataclasses import asdict
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from ddim.denoiser import Denoiser
from ddim.evaluate import copies
from ddim.experiments.piece import Setup
from ddim.files import write_bytes

COUNT = 1000  # samples at most
FILES = ("memorisation",)


def calls(model: Denoiser) -> float:
    """None: it looks at the samples of the evaluation."""
    return 0.0


def make(setup: Setup, seconds: float | None = None) -> dict[str, Any]:
    """Look for copies among the samples of the evaluation, and keep the most suspicious.

    `samples/memorisation.safetensors` holds "samples" (K, C, H, W) and "neighbours" (K, 3, C, H, W), uint8.

    Args:
        setup: on which images its model learnt and which were held out; its folder holds the evaluation's samples.
        seconds: not needed: the comparison takes seconds.

    Returns:
        See `ddim.evaluate.Memorisation`.
    """
    images = load_file(setup.folder / "samples/evaluation.safetensors")["images"][:COUNT]
    few = f"the evaluation has only {len(images):,} samples, where {COUNT:,} were wanted"
    found = copies(images, setup.learnt, setup.held_out, device=setup.model.device)
    pictures = {name: one.contiguous() for name, one in found.pictures(images, setup.learnt).items()}
    write_bytes(setup.folder / "samples/memorisation.safetensors", to_bytes(pictures))
    return {**asdict(found), "cut": few if len(images) < COUNT else None}
