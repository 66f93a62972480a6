"""`ddim vary`: variations of an image."""

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor, png, stem
from ddim.cli.options import PathFlag
from ddim.errors import number


@dataclass(frozen=True)
class Vary:
    """Draw variations of an image: noise is added up to a level, and removed again (SDEdit).

    The contact sheet shows the image and its variations. With --labels the image moves towards another class.

    For example:
      ddim vary mnist digit.png
      ddim vary mnist digit.png --strength 0.8 --count 16 --seed 3
      ddim vary mnist seven.png --strength 0.6 --labels 9 --guidance 2
      ddim vary airplanes photo.png --steps 50 --out variations.png
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    image: Annotated[Positional[PathFlag], arg(metavar="IMAGE")]
    """The image to vary, of the model's size."""
    strength: float = 0.5
    """Share of the steps that are taken, above 0 and at most 1: how much changes."""
    count: int = 8
    """Number of variations."""
    seed: int = 0
    """Seed of the noise."""
    labels: str | None = None
    """Class of the variations, or -1 for any; any if not given."""
    guidance: float = 1.0
    """Weight of classifier-free guidance; 1 turns it off."""
    out: PathFlag | None = None
    """PNG file for the contact sheet; IMAGE-varied.png if not given."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        out, count = png(self.out, f"{stem(self.image)}-varied.png"), number("--count", self.count, int, 1, 1000)
        editor = Editor.open(self.run_folder, self.edit.device)
        x0 = editor.image(self.image)[None]
        editor.write_variations(self, x0, x0, out)
        print(f"{out} shows the image and {count} variations.")
