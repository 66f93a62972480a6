"""What `ddim evaluate` leaves in a folder: its numbers, and suspicious samples beside their neighbours."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.evaluate.evaluation import Evaluation
from ddim.evaluate.memorisation import Memorisation
from ddim.files import write_text
from ddim.pictures import write_grid


def keep(folder: Path, found: Evaluation, **about: Any) -> Path:
    """Write `evaluation.json`.

    Args:
        folder: where to.
        found: the figures.
        about: more entries, e.g. "weights", their fingerprint.

    Returns:
        Its path.
    """
    return _write(folder / "evaluation.json", {**about, **found.facts()})


def keep_memorisation(folder: Path, found: Memorisation, samples: Tensor, training: Images, **about: Any) -> Path:
    """Write `memorisation.json`, and a picture of the suspects.

    Args:
        folder, about: as for `keep`.
        found: what was found.
        samples, training: the images that it was found in.

    Returns:
        The path of the picture: in each row a sample and its three nearest training images.
    """
    _write(folder / "memorisation.json", {**about, **found.facts()})
    pictures, picture = found.pictures(samples, training), folder / "memorisation.png"
    near = pictures["neighbours"]
    rows = [image for sample, others in zip(pictures["samples"], near, strict=True) for image in (sample, *others)]
    write_grid(torch.stack(rows), picture, columns=1 + near.shape[1])
    return picture


def _write(path: Path, facts: dict[str, Any]) -> Path:
    write_text(path, json.dumps(facts, indent=2) + "\n")
    return path
