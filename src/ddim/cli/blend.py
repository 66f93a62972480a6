"""`ddim blend`: images between two, or a collage of them, that the model draws as one."""

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor, png, stem
from ddim.cli.options import PathFlag
from ddim.errors import UserError, number


@dataclass(frozen=True)
class Blend:
    """Blend two images: their pixels are mixed, noise is added up to a level, and removed again.

    The contact sheet shows both images, their mixture, and blends. `ddim interpolate` mixes the codes of two images
    instead, and starts and ends at them.

    For example:
      ddim blend mnist three.png eight.png
      ddim blend mnist three.png eight.png --weight 0.3 --strength 0.7
      ddim blend airplanes left.png right.png --mask right-half.png
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    image: Annotated[Positional[PathFlag], arg(metavar="FIRST")]
    """The first image, of the model's size."""
    second: Annotated[Positional[PathFlag], arg(metavar="SECOND")]
    """The second image, of the same size."""
    weight: float = 0.5
    """Weight of the second image in the mixture, from 0 to 1."""
    mask: PathFlag | None = None
    """An image of the same size, white where the mixture shows the second image and black where it shows the first."""
    strength: float = 0.5
    """Share of the steps that are taken, above 0 and at most 1: how much changes."""
    count: int = 8
    """Number of blends."""
    seed: int = 0
    """Seed of the noise."""
    labels: str | None = None
    """Class of the blends, or -1 for any; any if not given."""
    guidance: float = 1.0
    """Weight of classifier-free guidance; 1 turns it off."""
    out: PathFlag | None = None
    """PNG file for the contact sheet; FIRST-SECOND.png if not given."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        import torch

        from ddim.edit.vary import mixture

        out = png(self.out, f"{stem(self.image)}-{stem(self.second)}.png")
        count = number("--count", self.count, int, 1, 1000)
        if self.mask is not None and self.weight != 0.5:
            raise UserError("--weight mixes all pixels and --mask chooses among them; give one of them.")
        editor = Editor.open(self.run_folder, self.edit.device)
        x0 = torch.stack([editor.image(path) for path in (self.image, self.second)])
        mask = None if self.mask is None else editor.mask(self.mask)
        mixed = mixture(x0[:1], x0[1:], self.weight, mask)
        editor.write_variations(self, mixed, torch.cat([x0, mixed]), out)
        print(f"{out} shows both images, their mixture and {count} blends.")
