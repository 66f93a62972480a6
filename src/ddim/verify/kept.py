"""What a verification leaves in the folder of a run: the endpoints, which cost most, and the distances."""

import csv
import io
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.files import write_bytes, write_text
from ddim.verify.distances import Distances, Row
from ddim.verify.endpoint import Start

ENDPOINT = Path("samples/endpoint.safetensors")
RESULTS = Path("results/solvers.json")


def endpoint(folder: Path, weights: str, start: Start) -> dict[str, Tensor] | None:
    """The reference that is kept for these weights and this noise, if there is one.

    Args:
        folder: of the run.
        weights: their fingerprint.
        start: the noise.
    """
    try:
        with safe_open(folder / ENDPOINT, "pt") as file:
            if file.metadata() == _about(weights, start):
                return {name: file.get_tensor(name) for name in ("whole", "half")}
    except (OSError, SafetensorError):
        pass  # absent or broken: to be made anew
    return None


def keep_endpoint(folder: Path, weights: str, start: Start, reference: dict[str, Tensor]) -> None:
    """Keep a reference for the next time."""
    write_bytes(folder / ENDPOINT, to_bytes(reference, metadata=_about(weights, start)))


def keep(folder: Path, weights: str, found: Distances) -> list[Path]:
    """Write `results/solvers.json` and `.csv`.

    Args:
        folder: of the run.
        weights: their fingerprint.
        found: the distances.

    Returns:
        The two paths.
    """
    facts = {"weights": weights, **found.facts()}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = list(Row.__dataclass_fields__)
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in found.rows)
    path = folder / RESULTS
    write_text(path, json.dumps(facts, indent=2) + "\n")
    write_text(path.with_suffix(".csv"), table.getvalue())
    return [path, path.with_suffix(".csv")]


def _about(weights: str, start: Start) -> dict[str, str]:
    return {"weights": weights, "count": str(start.count), "seed": str(start.seed)}
