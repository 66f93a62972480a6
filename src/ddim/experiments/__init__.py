"""Experiments: what is computed once per run and kept in its folder, so that the report only has to draw."""

import csv
import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ddim.errors import UserError
from ddim.experiments import (
    consistency,
    evaluation,
    gallery,
    interpolation,
    likelihood,
    memorisation,
    reconstruction,
    solvers,
    strips,
    table1,
    timing,
)
from ddim.experiments.piece import Piece, Setup, seconds_whole
from ddim.files import write_text
from ddim.model_io import fingerprint
from ddim.registry import Registry

__all__ = ["LOOK", "PIECES", "Piece", "Setup", "forget", "keep", "run", "seconds_whole"]

PIECES: Registry[Piece] = Registry("experiment")
PIECES["gallery"] = Piece(gallery.make, gallery.calls, gallery.FILES, share=0.6, images=False)
PIECES["strips"] = Piece(strips.make, strips.calls, strips.FILES, share=0.1, images=False)
PIECES["timing"] = Piece(timing.make, timing.calls, share=0.3, images=False)
LOOK = tuple(PIECES)
"""What one looks at first: no images but the model's own are needed."""
PIECES["consistency"] = Piece(consistency.make, consistency.calls, consistency.FILES, 0.3, images=False)
PIECES["interpolation"] = Piece(interpolation.make, interpolation.calls, interpolation.FILES, 0.1, images=False)
PIECES["solvers"] = Piece(solvers.make, solvers.calls, share=0.6, images=False)
PIECES["reconstruction"] = Piece(reconstruction.make, reconstruction.calls, reconstruction.FILES, share=0.4)
PIECES["likelihood"] = Piece(likelihood.make, likelihood.calls, share=0.5)
PIECES["evaluation"] = Piece(evaluation.make, evaluation.calls, evaluation.FILES, share=0.7)
PIECES["memorisation"] = Piece(memorisation.make, memorisation.calls, memorisation.FILES, share=0.1)
PIECES["table1"] = Piece(table1.make, table1.calls, share=2.0)  # last: it takes what the others left


def run(
    setup: Setup,
    *,
    minutes: float | None = None,
    redo: bool = False,
    whole: bool = False,
    pieces: Sequence[str] = LOOK,
) -> Iterator[str]:
    """Compute what the report of a run shows: what is there already for these weights is not computed again.

    Each piece ends by writing `results/<piece>.json`, which names the weights that it was computed with, and its
    rows as `.csv`: an interrupt costs one piece, and a run that was trained anew is sampled anew.

    Args:
        setup: the run's folder, its model and, for the pieces that need them, its images.
        minutes: about how long it may take. Fewer steps and images are then used where the whole would not
            fit, and the results say so. None: no limit.
        redo: compute all of it again.
        whole: compute again what a limit has cut.
        pieces: which, of `PIECES`.

    Yields:
        The name of each piece, when its results are in the folder.

    Raises:
        UserError: no such piece, minutes that are not above 0, images that a piece needs and that are not there,
            or a folder without a model.
    """
    folder = Path(setup.folder)
    if minutes is not None and not minutes > 0:
        raise UserError(f"minutes must be above 0; got {minutes}.")
    chosen = {name: PIECES[name] for name in pieces}
    weights = fingerprint(folder)
    open_ones = [name for name in chosen if redo or not _done(folder, name, weights, whole)]
    for name in open_ones:
        if chosen[name].images and (setup.train is None or setup.test is None):
            raise UserError(f"The experiment {name!r} needs the images that the model learnt from; give them too.")
    end = time.monotonic() + 60 * (minutes or 0)
    for name, piece in chosen.items():
        if name in open_ones:
            rest = sum(chosen[other].share for other in open_ones[open_ones.index(name) :])
            seconds = max(0.0, end - time.monotonic()) * piece.share / rest if minutes is not None else None
            forget(folder, name)  # its samples are about to change
            keep(folder, name, {"weights": weights, **piece.make(setup, seconds)})
        yield name


def forget(folder: Path, name: str) -> None:
    """Remove `results/<name>.json`: what is in `samples/` is no longer what it tells of."""
    (folder / "results" / f"{name}.json").unlink(missing_ok=True)


def keep(folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Write `results/<name>.json`, which the report reads, and its rows as `.csv`.

    Args:
        folder: of the run.
        name: of the experiment.
        facts: what was found, with the fingerprint of the run's weights as "weights".
    """
    path = folder / "results" / f"{name}.json"
    if isinstance(facts.get("rows"), list | tuple):
        write_text(path.with_suffix(".csv"), _csv(facts["rows"]))
    write_text(path, json.dumps(facts, indent=2) + "\n")


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _done(folder: Path, name: str, weights: str, whole: bool) -> bool:
    try:
        facts = json.loads((folder / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for file in PIECES[name].files:
            load_file(folder / "samples" / f"{file}.safetensors")
        return bool(facts["weights"] == weights) and not (whole and facts.get("cut"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return False
