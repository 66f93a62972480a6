"""`ddim restore`: images that agree with a damaged one."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddim.cli.editing import EditFlags, Editor, png, stem
from ddim.cli.options import PathFlag
from ddim.errors import UserError, number

if TYPE_CHECKING:
    from ddim.edit import Operator


@dataclass(frozen=True)
class Restore:
    """Restore a damaged image: samples of the model's images that agree with it, as a contact sheet.

    The image is the measurement itself: of the model's size, or smaller for --super-resolution. With --simulate it is a
    whole image, which is damaged first. The sheet shows the whole image, if there is one, the measurement, and samples.

    For example:
      ddim restore mnist torn.png --mask known.png
      ddim restore mnist digit.png --box 8 8 12 12 --count 8
      ddim restore mnist small.png --super-resolution 4
      ddim restore mnist digit.png --blur 1.5 --noise 0.1 --simulate
      ddim restore mnist noisy.png --noise 0.3 --method diffpir --steps 50
      ddim restore airplanes grey.png --grey --out coloured.png
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    image: Annotated[Positional[PathFlag], arg(metavar="IMAGE")]
    """The damaged image; with --simulate, a whole one."""
    mask: PathFlag | None = None
    """An image of the same size, white where pixels are known and black where they are not."""
    box: Annotated[tuple[int, int, int, int] | None, arg(metavar="TOP LEFT HEIGHT WIDTH")] = None
    """The pixels of this rectangle are not known."""
    super_resolution: Annotated[int | None, arg(metavar="FACTOR")] = None
    """The image is smaller by this factor: each pixel is the mean of a square."""
    blur: Annotated[float | None, arg(metavar="STD")] = None
    """The image is blurred by a Gaussian with this standard deviation in pixels."""
    grey: bool = False
    """The image is grey, and the model draws in colour."""
    noise: float = 0.0
    """Standard deviation of the noise in the image, for pixels from -1 to 1; alone, the image is only noisy."""
    simulate: bool = False
    """Damage the image first, by the operator and the noise."""
    method: str = "pigdm"
    """Name of a method (see `ddim list methods`): pigdm is the most accurate, ddnm and diffpir are 8 times faster."""
    resample: int = 1
    """How often each step is taken, for --mask and --box: above 1 it is RePaint's resampling."""
    count: int = 4
    """Number of samples."""
    seed: int = 0
    """Seed of the noise."""
    labels: str | None = None
    """Class of the image, or -1 for any; any if not given."""
    out: PathFlag | None = None
    """PNG file for the contact sheet; IMAGE-restored.png if not given."""
    edit: EditFlags = field(default_factory=EditFlags)

    def run(self) -> None:
        import torch

        from ddim.edit import Mask, restore
        from ddim.noise import ImageNoise
        from ddim.pictures import to_uint8, write_grid

        out = png(self.out, f"{stem(self.image)}-restored.png")
        noise_std, count = number("--noise", self.noise, float, 0, 100), number("--count", self.count, int, 1, 1000)
        editor = Editor.open(self.run_folder, self.edit.device)
        model = editor.model
        operator = self._operator(editor)
        shape = operator.measured(model.shape)
        if self.simulate:
            x0 = editor.image(self.image)[None]
            y = operator.forward(x0)
            y = y + noise_std * ImageNoise(self.seed, [count])(y)  # the samples take the images before this one
            shown = [x0, operator.shown(y)]
        else:
            y = editor.image(self.image, shape, "The measurement")[None]
            y = operator.forward(y) if isinstance(operator, Mask) else y  # 0 where nothing is known
            shown = [operator.shown(y)]
        labels, options = editor.labels(self.labels, 1), self.edit.chosen(eta=1.0)
        settings = editor.settings(self, options, seed=self.seed, count=count, labels=self.labels)
        samples = restore(
            model,
            y,
            operator,
            noise_std,
            method=self.method,
            **options,
            seed=self.seed,
            count=count,
            labels=labels,
            conditions=self.edit.vector(),
            resample=self.resample,
        )[0]
        rows = torch.cat([*(one.expand(1, *model.shape) for one in shown), samples])
        write_grid(to_uint8(rows), out, len(rows), settings)
        first = "the original, the measurement" if self.simulate else "the measurement"
        print(f"{out} shows {first} and {count} samples.")

    def _operator(self, editor: Editor) -> "Operator":
        """Return the operator that the flags name. Raises `UserError` unless it is one."""
        import torch

        from ddim.edit import Blur, Box, Grey, Mask, SuperResolution

        names = ("mask", "box", "super_resolution", "blur", "grey")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} each describe the damage; give one of them.")
        if not given and not self.noise:
            raise UserError(
                "Say how the image is damaged: --mask, --box, --super-resolution, --blur, --grey or --noise."
            )
        if self.mask is not None:
            return Mask(editor.mask(self.mask))
        if self.box is not None:
            return Box(editor.model.shape, *self.box)
        if self.super_resolution is not None:
            return SuperResolution(self.super_resolution)
        if self.blur is not None:
            return Blur(self.blur)
        return Grey() if self.grey else Mask(torch.ones(editor.model.shape[1:], dtype=torch.bool))
