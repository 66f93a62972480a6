"""`ddim interpolate`: from one image to another, between four, or a tour of several."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor
from ddim.cli.options import PathFlag, numbers, writable
from ddim.errors import UserError, number

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.level import Level


@dataclass(frozen=True)
class Interpolate:
    """Draw the images on the arc between two noises, on a grid between four, or a moving tour of several.

    The noises are those of --seeds, or the codes of given images. Between images of different classes, leave out
    --labels: one class holds for the whole picture.

    For example:
      ddim interpolate mnist --seeds 0,1 --labels 3
      ddim interpolate mnist --seeds 0,1,2,3 --rows 6 --columns 6
      ddim interpolate mnist three.png eight.png --columns 12
      ddim interpolate airplanes --seeds 4,5 --columns 30 --out morph.gif
      ddim interpolate mnist three.png eight.png --columns 60 --out morph.mp4
      ddim interpolate mnist --seeds 0,1,2,3,4 --labels 3 --columns 20 --out tour.gif
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    images: Annotated[Positional[tuple[PathFlag, ...]], arg(metavar="IMAGE...")] = ()
    """Two or four images of the model's size; for a moving picture two or more."""
    seeds: str | None = None
    """Seeds in place of images, e.g. 0,1."""
    columns: int = 8
    """Images from left to right; in a tour, from each end to the next."""
    rows: int | None = None
    """Images from top to bottom, between four; as many as the columns if not given."""
    labels: str | None = None
    """Class of all images, or -1 for any; any if not given."""
    out: PathFlag = Path("interpolation.png")
    """A .png file for a grid; a .gif, .webp or .mp4 file for a moving picture: between two there and back, of more a
    tour in their order that returns to the first."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        from ddim.edit import grid, line, tour
        from ddim.pictures import check_moving, to_uint8, write_grid, write_moving

        moving = self.out.suffix.lower() != ".png"
        if moving:
            check_moving(self.out)
        writable(self.out.parent)
        editor = Editor.open(self.run_folder, self.edit.device)
        model, options = editor.model, self.edit.chosen()
        sampler, levels = model.sampling.resolve(model.schedule, **options)
        if sampler.stochastic:
            raise UserError(f"{sampler} injects noise, so neighbours differ at random; take a deterministic sampler.")
        ends = self._ends(editor, levels[0], moving)
        columns = number("--columns", self.columns, int, 2, 1000)
        if self.rows is not None and (moving or len(ends) == 2):
            raise UserError("--rows is for a grid between four in a .png file; leave it out.")
        if len(ends) == 2:
            codes = line(ends[0], ends[1], columns)
        elif moving:
            codes = tour(ends, columns)
        else:
            codes = grid(ends, number("--rows", self.rows or columns, int, 2, 1000), columns).flatten(0, 1)
        label, vector = editor.labels(self.labels, len(codes)), self.edit.vector()
        pixels = to_uint8(model.decode(codes, labels=label, conditions=vector, **options).float().cpu())
        settings = editor.settings(self, options, labels=self.labels)
        if moving:
            write_moving(pixels, self.out, settings, back=len(ends) == 2)
        else:
            write_grid(pixels, self.out, columns, settings)
        print(f"{len(pixels)} images in {self.out}.")

    def _ends(self, editor: Editor, first: "Level", moving: bool) -> "Tensor":
        """Return x_T of each end, at the first level, (N, C, H, W). Raises `UserError` for a wrong number."""
        import torch

        from ddim.forward import start
        from ddim.noise import ImageNoise

        model = editor.model
        if (self.seeds is None) == (not self.images):
            raise UserError("Name two or more images, or as many --seeds: one of the two.")
        seeds = [] if self.seeds is None else numbers("seeds", self.seeds, int)
        count = len(seeds) or len(self.images)
        if count < 2 or not (moving or count in (2, 4)):
            raise UserError(
                f"A grid goes between two ends or four corners, a moving picture between two or more; got {count}."
            )
        if seeds:
            noise = torch.cat([ImageNoise(seed, [0])(torch.empty(1, *model.shape)) for seed in seeds])
            return start(first, noise)
        x0 = torch.stack([editor.image(path) for path in self.images])
        label, vector = editor.labels(self.labels, count), self.edit.vector()
        return model.encode(x0, labels=label, conditions=vector, **self.edit.chosen())
