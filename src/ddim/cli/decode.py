"""`ddim decode`: the images of codes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor, read_codes
from ddim.cli.options import PathFlag, refuse, writable
from ddim.errors import UserError


@dataclass(frozen=True)
class Decode:
    """Decode the codes of `ddim encode` into images, by the same sampler and steps.

    With other --labels or --conditions, the images change their class and keep their style.

    For example:
      ddim decode mnist codes.npz
      ddim decode mnist codes.npz --labels 5 --out fives.png
      ddim decode airplanes codes.npz --out decoded/
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """The model that encoded the images."""
    codes: Annotated[Positional[PathFlag], arg(metavar="CODES")]
    """The .npz file of `ddim encode`."""
    labels: str | None = None
    """Class of the images, one for all or one for each, or -1 for any; that of the encoding if not given."""
    out: PathFlag = Path("decoded.png")
    """A .png file for one grid, or a folder for one file per image."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        from ddim.pictures import to_uint8, write_each, write_grid

        folder = self.out.is_dir() or not self.out.suffix
        if not folder and self.out.suffix.lower() != ".png":
            raise UserError(f"Images are written as PNG, and --out is {self.out}; name a .png file or a folder.")
        writable(self.out if folder else self.out.parent)
        refuse(self.edit, ("steps", "sampler", "eta", "spacing"), "is that of the encoding, which the codes keep.")
        editor = Editor.open(self.run_folder, self.edit.device)
        codes, kept = read_codes(self.codes, editor)
        options: Any = {name: kept.get(name) for name in ("sampler", "eta", "spacing")}
        if isinstance(options["spacing"], str):
            options["steps"] = kept.get("steps")
        labels: Any = editor.labels(self.labels, len(codes))
        labels = kept.get("labels") if labels is None else labels
        vector = kept.get("conditions") if self.edit.conditions is None else self.edit.vector()
        exact = kept.get("exact") is True
        images = editor.model.decode(codes, labels=labels, exact=exact, conditions=vector, **options)
        settings = editor.settings(
            self, options, labels=None if labels is None else list(map(int, labels)), exact=exact
        )
        pixels = to_uint8(images.float().cpu())
        if folder:
            write_each(pixels, self.out, settings=[{**settings, "index": i} for i in range(len(pixels))])
        else:
            write_grid(pixels, self.out, settings=settings)
        print(f"{len(pixels)} images in {self.out}.")
