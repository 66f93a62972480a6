"""`ddim sample`: new images from a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tyro.conf import Positional

from ddim.errors import UserError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Sample:
    """Draw new images from a model, as one picture or as a folder of them.

    For example:
      ddim sample runs/digits
      ddim sample runs/digits --steps 10 --count 100 --out digits.png
      ddim sample runs/digits --sampler ddpm --steps 1000
      ddim sample runs/digits --eta hat --spacing quadratic
      ddim sample runs/digits --sampler unipc --steps 10
      ddim sample runs/digits --count 5000 --out generated/
      ddim sample runs/digits --checkpoint 1800 --raw
    """

    run_folder: Positional[str]
    """The run, e.g. runs/digits, or a model that comes with ddim: mnist or airplanes."""

    count: int | None = None
    """How many images; one for each label if these are given, else 64."""

    steps: int | None = None
    """Steps for each image, from 1 to T; the model's own default if not given, like the next three."""

    sampler: str | None = None
    """ddim, ddpm, plms, pndm, ipndm, deis, heun, dpm-2, dpm-3, dpmpp-2s, dpmpp-2m, dpmpp-3m, dpmpp-2m-sde, unipc or
    er-sde. heun, dpm-2 and dpmpp-2s make two network calls a step, dpm-3 three; plms and pndm more in their first
    steps; the others one."""

    eta: float | Literal["hat"] | None = None
    """0 is DDIM, 1 is DDPM, in between is allowed; hat is sigma-hat. Given alone, it asks for --sampler ddim.
    dpmpp-2m and dpmpp-2m-sde have one too."""

    spacing: str | None = None
    """trailing, leading, linear, quadratic or log-snr; or descending times, e.g. 1000,500,250,100."""

    seed: int = 0
    """Of the noise: image i of a seed is always the same."""

    first: int = 0
    """Index of the first image of that seed."""

    labels: str | None = None
    """The class of each image, e.g. 0,1,2; all classes in turn if not given."""

    guidance: float = 1.0
    """Weight of classifier-free guidance; 1 is none."""

    clip: bool = True
    """Clip each predicted x0 to the range of images."""

    batch_size: int | None = None
    """Images at a time; it changes nothing but the speed."""

    out: Path | None = None
    """A .png for one grid, or a folder for a file for each image; RUN/samples/... if not given,
    samples/... for a model that comes with ddim."""

    checkpoint: int | None = None
    """Use the weights of this step, one of those in RUN/checkpoints."""

    raw: bool = False
    """Use the latest weights instead of the averaged ones."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    def run(self) -> None:
        from ddim.data import to_uint8
        from ddim.device import choose_device
        from ddim.loading import find, load
        from ddim.pictures import write_each, write_grid

        folder = find(self.run_folder)
        out = self.out or self._place(folder)
        if out.suffix.lower() not in ("", ".png"):
            raise UserError(f"Pictures are written as PNG; name a .png file or a folder for --out, not {out}.")
        model = load(folder, checkpoint=self.checkpoint, raw=self.raw).to(choose_device(self.device))
        labels = None if self.labels is None else _numbers("labels", self.labels, int)
        spacing: str | list[float] | None = self.spacing
        if self.spacing and ("," in self.spacing or self.spacing[0].isdigit()):
            spacing = _numbers("spacing", self.spacing, float)
        count = self.count if self.count is not None else len(labels) if labels else 64
        images = model.sample(
            count,
            steps=self.steps,
            sampler=self.sampler,
            eta=self.eta,
            spacing=spacing,
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

    def _place(self, folder: Path) -> Path:
        """Where the grid goes if the call does not say: beside the run's own, not into the package."""
        from ddim.loading import comes_with_ddim

        if not comes_with_ddim(folder):
            return folder / "samples" / f"seed{self.seed}.png"
        return Path("samples") / f"{self.run_folder}-seed{self.seed}.png"


def _numbers(what: str, text: str, kind: type[Number]) -> list[Number]:
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        raise UserError(
            f"The {what} must be numbers with commas between them, as in 3,1,4; got {text!r}."
        ) from None
