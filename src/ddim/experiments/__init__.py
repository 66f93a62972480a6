"""Experiments: what is computed once per run and kept in its folder, so that the report only has to draw."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ddim.checkpoint import fingerprint
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.experiments import gallery, strips, timing
from ddim.files import write_text
from ddim.registry import Registry

__all__ = ["PIECES", "run"]

Piece = Callable[[Path, Denoiser, float | None], dict[str, Any]]
"""(folder, model, seconds or None) -> the facts for `results/<name>.json`; samples it saves itself."""

PIECES: Registry[Piece] = Registry("experiment")
PIECES.update({"gallery": gallery.make, "strips": strips.make, "timing": timing.make})

_FILES = {"gallery": gallery.FILES, "strips": strips.FILES, "timing": ()}  # in samples/
_SHARE = {"gallery": 0.6, "strips": 0.1, "timing": 0.3}  # of the minutes


def run(
    folder: str | Path,
    model: Denoiser,
    *,
    minutes: float | None = None,
    redo: bool = False,
    pieces: Sequence[str] = tuple(PIECES),
) -> Iterator[str]:
    """Compute what the report of a run shows: what is there already for these weights is not computed again.

    Each piece ends by writing `results/<piece>.json`, which names the weights that it was computed with: an
    interrupt costs one piece, and a run that was trained anew is sampled anew.

    Args:
        folder: of the run, which holds `model.safetensors`.
        model: the model of that run, on the device to use.
        minutes: about how long it may take. Fewer steps and images are then used where the whole would not
            fit, and the results say so. None: no limit.
        redo: compute all of it again.
        pieces: which, of `PIECES`.

    Yields:
        The name of each piece, when its results are in the folder.

    Raises:
        UserError: no such piece, minutes that are not above 0, or a folder without a model.
    """
    folder = Path(folder)
    if minutes is not None and not minutes > 0:
        raise UserError(f"minutes must be above 0; got {minutes}.")
    makers = {name: PIECES[name] for name in pieces}
    weights = fingerprint(folder)
    open_ones = [name for name in makers if redo or not _done(folder, name, weights)]
    end = time.monotonic() + 60 * (minutes or 0)
    for name, make in makers.items():
        if name in open_ones:
            rest = sum(_SHARE[other] for other in open_ones[open_ones.index(name) :])
            seconds = max(0.0, end - time.monotonic()) * _SHARE[name] / rest if minutes is not None else None
            result = folder / "results" / f"{name}.json"
            result.unlink(missing_ok=True)  # its samples are about to change
            facts = make(folder, model, seconds)
            write_text(result, json.dumps({"weights": weights, **facts}, indent=2) + "\n")
        yield name


def _done(folder: Path, name: str, weights: str) -> bool:
    try:
        facts = json.loads((folder / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for file in _FILES[name]:
            load_file(folder / "samples" / f"{file}.safetensors")
        return bool(facts["weights"] == weights)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return False
