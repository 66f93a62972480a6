"""`ddim sample`: new images from a model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import Device, Guidance, SamplingFlags, numbers
from ddim.errors import UserError


@dataclass(frozen=True)
class Sample:
    """Draw new images from a model, as one picture or as a folder of files.

    For example:
      ddim sample runs/digits
      ddim sample runs/digits --steps 10 --count 100 --out digits.png
      ddim sample runs/digits --sampler ddpm --steps 1000
      ddim sample runs/digits --eta hat --spacing quadratic
      ddim sample runs/digits --sampler mine --plugin mine.py
      ddim sample runs/digits --count 5000 --out generated/
      ddim sample runs/digits --checkpoint 1800 --raw
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    count: int | None = None
    """Number of images; if not given, one for each of --labels, else 64."""
    seed: int = 0
    """Seed of the noise. Image i of a seed is the same in every call."""
    first: int = 0
    """Index of the first image of the seed to draw."""
    labels: str | None = None
    """Class of each image, e.g. 0,1,2; all classes in turn if not given."""
    guidance: Guidance = 1.0
    clip: bool = True
    """Clip each predicted x0 to [-1, 1]."""
    batch_size: int | None = None
    """Number of images to sample together, 64 if not given; it changes the speed, not the images."""
    out: Path | None = None
    """A .png file for one grid, or a folder for one file per image; a grid in RUN/samples if not given."""
    checkpoint: int | None = None
    """Use the weights saved at this training step, one of those in RUN/checkpoints."""
    raw: bool = False
    """Use the latest weights instead of the averaged ones."""
    device: Device = None
    sampling: SamplingFlags = field(default_factory=SamplingFlags)

    def run(self) -> None:
        from ddim.data import to_uint8
        from ddim.device import choose_device
        from ddim.loading import comes_with_ddim, find, load
        from ddim.pictures import write_each, write_grid

        folder = find(self.run_folder)
        grid = f"seed{self.seed}.png"  # by default inside the run, but never in the package
        default = Path(f"samples/{self.run_folder}-{grid}") if comes_with_ddim(folder) else folder / "samples" / grid
        out = self.out or default
        if out.suffix.lower() not in ("", ".png"):
            raise UserError(f"Pictures are written as PNG; name a .png file or a folder for --out, not {out}.")
        model = load(folder, checkpoint=self.checkpoint, raw=self.raw).to(choose_device(self.device))
        labels = None if self.labels is None else numbers("labels", self.labels, int)
        count = self.count if self.count is not None else len(labels) if labels else 64
        images = model.sample(
            count,
            **self.sampling.options(),
            seed=self.seed,
            first=self.first,
            labels=labels,
            guidance=self.guidance,
            clip=self.clip,
            batch_size=self.batch_size,
        )
        if out.suffix.lower() == ".png":
            in_turn = labels is None and model.classes is not None and count > model.classes
            write_grid(to_uint8(images), out, columns=model.classes if in_turn else None)  # a column for each class
        else:
            write_each(to_uint8(images), out, self.first)
        print(f"{count} images in {out}.")
