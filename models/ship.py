"""Make a model for the package from a run: the weights in half precision, the config and the metrics.

python models/ship.py runs/mnist models/mnist
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from ddim.files import write_bytes

HISTORY = ("config.json", "metrics.jsonl")


def ship(run: Path, model: Path) -> None:
    """Write the folder of the model."""
    weights = load_file(run / "model.safetensors")
    halves = {name: one.half() if one.dtype == torch.float32 else one for name, one in weights.items()}
    for name in HISTORY:
        write_bytes(model / name, (run / name).read_bytes())
    write_bytes(model / "model.safetensors", save(halves, metadata={"format": "pt"}))


if __name__ == "__main__":
    ship(*map(Path, sys.argv[1:]))
