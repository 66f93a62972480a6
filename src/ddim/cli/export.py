"""`ddim export`: a model for another library or program, or one of another library as a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddim.cli.options import PathFlag
from ddim.errors import UserError


@dataclass(frozen=True)
class Export:
    """Write a model as a folder of diffusers, as a program for ONNX Runtime or torch.export, or as a run of ddim.

    For example:
      ddim export runs/mnist --to onnx                          then: cd mnist-onnx; python sample.py
      ddim export runs/cifar --to diffusers --label 3           DDIMPipeline.from_pretrained("cifar-diffusers")
      ddim export runs/mnist --to torch --out programs/mnist
      ddim export ddpm-cifar10-32/ --to ddim --out runs/ddpm    a folder of diffusers becomes a run
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, a model that comes with ddim (see `ddim list models`), or a model of another library."""
    to: Literal["diffusers", "onnx", "torch", "ddim"]
    """What to write."""
    out: PathFlag | None = None
    """The folder to write, which must be empty or missing; NAME-TO if not given."""
    label: int | None = None
    """For diffusers, whose pipeline passes no labels: the class that the folder draws, -1 for any class."""
    checkpoint: int | None = None
    """Use the weights saved at this training step, one of those in RUN/checkpoints."""
    raw: bool = False
    """Use the latest weights instead of the averaged ones."""
    image_size: int | None = None
    """Side of the images, for a model of another library that does not tell it."""

    def run(self) -> None:
        from ddim import interop, load, model_io

        if self.label is not None and self.to != "diffusers":
            raise UserError(f"--label is for --to diffusers; a folder for {self.to} has all classes.")
        source = Path(self.model).resolve()
        out = self.out or Path(f"{source.stem if source.is_file() else source.name}-{self.to}")
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UserError(f"{out} is not empty; choose another --out, or remove it first.")
        size, step = self.image_size, self.checkpoint
        model = load(self.model, checkpoint=step, raw=self.raw, backend="torch", image_size=size)
        match self.to:
            case "diffusers":
                interop.to_diffusers(model, out, self.label)
                use = f'DDIMPipeline.from_pretrained("{out}")'
            case "onnx":
                interop.to_onnx(model, out)
                use = f"python {out / 'sample.py'}"
            case "torch":
                interop.to_torch(model, out)
                use = f'torch.export.load("{out / "network.pt2"}").module()'
            case "ddim":
                model_io.save(model, out)
                use = f"ddim sample {out}"
        print(f"{out} is written. Use it: {use}")
