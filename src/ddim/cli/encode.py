"""`ddim encode`: the noise from which a model makes given images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor, write_codes
from ddim.cli.options import PathFlag
from ddim.errors import UserError


@dataclass(frozen=True)
class Encode:
    """Encode images into the noise x_T from which a deterministic sampler makes them.

    `ddim decode` makes the images again. By default it does so up to the error of DDIM's steps, which falls with their
    number; with --refine the error is smaller, with --exact there is none but rounding.

    For example:
      ddim encode mnist three.png seven.png --labels 3,7 --out codes.npz
      ddim encode mnist three.png --exact --steps 20
      ddim encode airplanes photo.png --refine 3 --steps 100
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    images: Annotated[Positional[tuple[PathFlag, ...]], arg(metavar="IMAGE...")]
    """The images, of the model's size."""
    labels: str | None = None
    """Class of the images, one for all or one for each, or -1 for any; any if not given."""
    exact: bool = False
    """Keep two states of O-BELM, a solver that runs backwards without an error."""
    refine: int = 0
    """Number of iterations for each step, each one more network call."""
    out: PathFlag = Path("codes.npz")
    """File for the codes, .npz."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        import torch

        if self.out.suffix.lower() != ".npz":
            raise UserError(f"Codes are written as .npz, and --out is {self.out}; give a name that ends in .npz.")
        editor = Editor.open(self.run_folder, self.edit.device)
        if not self.images:
            raise UserError("Name at least one image to encode.")
        x0, options = torch.stack([editor.image(path) for path in self.images]), self.edit.chosen()
        labels = editor.labels(self.labels, len(x0))
        vector = self.edit.vector()
        codes = editor.model.encode(
            x0, labels=labels, exact=self.exact, refine=self.refine, conditions=vector, **options
        )
        kept = {"labels": None if labels is None else labels.tolist(), "conditions": vector}
        settings = editor.settings(self, options, **kept, exact=self.exact)
        write_codes(self.out, codes, settings)
        print(f"{len(codes)} codes in {self.out}; `ddim decode {self.run_folder} {self.out}` makes the images again.")
