"""What an evaluation leaves in the folder of a run: its numbers, and suspicious samples beside their neighbours."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.data.images import Images
from ddim.evaluate.evaluation import Evaluation
from ddim.evaluate.memorisation import Memorisation
from ddim.files import write_bytes, write_text
from ddim.pictures import write_grid

EVALUATION, MEMORISATION = Path("results/evaluation.json"), Path("results/memorisation.json")
SUSPECTS, PICTURE = Path("samples/memorisation.safetensors"), Path("figures/memorisation-samples.png")


def keep(folder: Path, found: Evaluation, **about: Any) -> Path:
    """Write `results/evaluation.json`.

    Args:
        folder: of the run.
        found: the figures.
        about: more entries, e.g. "weights", their fingerprint.

    Returns:
        Its path.
    """
    return _write(folder / EVALUATION, {**about, "cut": None, **found.facts()})


def keep_memorisation(folder: Path, found: Memorisation, samples: Tensor, training: Images, **about: Any) -> Path:
    """Write `results/memorisation.json`, the suspects as tensors, and a picture of them.

    Args:
        folder, about: as for `keep`.
        found: what was found.
        samples, training: the images that it was found in.

    Returns:
        The path of the picture: in each row a sample and its three nearest training images.
    """
    pictures = found.pictures(samples, training)
    write_bytes(folder / SUSPECTS, to_bytes({name: one.contiguous() for name, one in pictures.items()}))
    _write(folder / MEMORISATION, {**about, "cut": None, **found.facts()})
    near = pictures["neighbours"]
    rows = [image for sample, others in zip(pictures["samples"], near, strict=True) for image in (sample, *others)]
    write_grid(torch.stack(rows), folder / PICTURE, columns=1 + near.shape[1])
    return folder / PICTURE


def _write(path: Path, facts: dict[str, Any]) -> Path:
    write_text(path, json.dumps(facts, indent=2) + "\n")
    return path
