"""Draw docs/images/first.gif: x_t of twenty digits at each of 20 DDIM steps, from noise to digits."""

from pathlib import Path

import torch
from PIL import Image

import ddim
from ddim import pictures, samplers

OUT = Path(__file__).parent / "images/first.gif"
DIGITS, STEPS, LEVELS = 20, 20, 6  # LEVELS of grey: noise fills a GIF


@torch.no_grad()
def main() -> None:
    """Write the file."""
    model = ddim.load("mnist", backend="torch")
    method, levels = model.sampling.resolve(model.schedule, STEPS, "ddim")
    denoise = model.denoise(labels=[i % 10 for i in range(DIGITS)])
    xT = ddim.noise.ImageNoise(0, range(DIGITS))(torch.empty(DIGITS, *model.shape))
    frames = [xT, *samplers.trajectory(method, denoise, xT, levels)]
    grids = [pictures.grid(x.clamp(-1, 1), columns=10, scale=2) for x in frames]
    first, *rest = (grid.convert("L").quantize(LEVELS, dither=Image.Dither.NONE) for grid in grids)
    times = [600, *[110] * (STEPS - 1), 2500]
    first.save(OUT, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
