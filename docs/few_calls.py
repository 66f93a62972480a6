"""Draw docs/images/few-calls.png: the same aeroplanes in 5 calls of DDIM, in presets of 5 and 8, in 50 of DDIM."""

from pathlib import Path

import torch

import ddim
from ddim import pictures

OUT = Path(__file__).parent / "images/few-calls.png"
COUNT = 12
ROWS = (  # arguments of `sample`; without a sampler, the preset of so many calls
    {"steps": 5, "sampler": "ddim", "spacing": "leading"},
    {"steps": 5},
    {"steps": 8},
    {"steps": 50, "sampler": "ddim", "spacing": "trailing"},
)


def main() -> None:
    """Write the file."""
    model = ddim.load("airplanes", backend="torch")
    rows = [model.sample(COUNT, seed=1, progress=False, **options) for options in ROWS]
    pictures.grid(torch.cat(rows), columns=COUNT, scale=2).save(OUT)
    print(f"{OUT.name}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
