"""`ddim replay`: make the images of a PNG again from what the file says of them."""

import hashlib
import math
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from tyro.conf import Positional, arg

from ddim.cli.editing import png, stem
from ddim.cli.options import Device, PathFlag, writable
from ddim.errors import UserError, number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ddim.denoiser import Denoiser

EDITS = ("restore", "decode", "interpolate", "vary", "blend")
FILES = ("image", "images", "second", "mask", "codes")  # flags that name files
TOLERANCE = 16  # grey levels of 255: another machine rounds otherwise, and a network amplifies it


@dataclass(frozen=True)
class Replay:
    """Make a picture of ddim again, from the settings that its file holds, and compare the two.

    On the same machine and backend it is the same, bit for bit. The inputs of an edited picture must be where they
    were.

    For example:
      ddim replay samples/mnist-seed0.png
      ddim replay generated/000123.png --model runs/mnist
      ddim replay digit-restored.png --out again.png
      ddim replay morph.gif
    """

    image: Annotated[Positional[PathFlag], arg(metavar="IMAGE")]
    """A PNG file of `ddim sample`, `restore`, `decode`, `interpolate`, `vary` or `blend`, or a GIF or WebP file of
    `interpolate`."""
    model: str | None = None
    """The model; if not given, the one that comes with ddim or the run in runs/ whose name the file holds."""
    out: PathFlag | None = None
    """File for the new picture, of the kind of IMAGE; IMAGE-replayed if not given."""
    device: Device = None

    def run(self) -> None:
        from ddim import __version__
        from ddim.pictures import read_settings

        out = self._place()
        if not self.image.is_file():
            raise UserError(f"There is no file {self.image}; give a PNG, GIF or WebP file that ddim wrote.")
        settings = read_settings(self.image)
        if settings is None or not isinstance(settings.get("weights"), str):
            raise UserError(
                f"{self.image} does not say how it was made; give a PNG, GIF or WebP file that ddim wrote, and no copy "
                "that another program saved."
            )
        folder = self._folder(settings)
        try:
            if "command" in settings:
                self._edit(settings, folder, out)
            else:
                self._sample(settings, folder, out)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"The settings in {self.image} are not complete ({error!r:.80}); it was written by ddim "
                f"{settings.get('ddim', 'of unknown version')}, and this is ddim {__version__}."
            ) from error
        print(f"{out} is {self._difference(out, settings)}.")

    def _place(self) -> Path:
        """Return the path of the new picture. Raises `UserError` for a film, or a name of another kind of picture."""
        kind = self.image.suffix.lower()
        if kind == ".mp4":
            raise UserError(
                f"{self.image} is a film, and its compression loses detail, so it cannot be compared; write a .gif or "
                ".webp file to replay it."
            )
        if kind not in (".gif", ".webp"):
            return png(self.out, f"{stem(self.image)}-replayed.png")
        out = self.out or Path(f"{stem(self.image)}-replayed{kind}")
        if out.suffix.lower() != kind:
            raise UserError(f"The new picture is a {kind} file as {self.image} is, and --out is {out}.")
        writable(out.parent)
        return out

    def _folder(self, settings: dict[str, Any]) -> Path:
        """Return the folder of the model. Raises `UserError` if there is none, or its weights are others."""
        from ddim.loading import SHIPPED, find

        name = str(settings.get("model"))
        folders = [Path("runs") / name, SHIPPED / name] if self.model is None else [find(self.model)]
        folders = [folder for folder in folders if folder.is_dir()]
        for folder in folders:
            if _weights(folder, settings) == settings["weights"]:
                return folder
        if not folders:
            raise UserError(f"{self.image} was made by a model {name!r:.80}, which is not here; name it by --model.")
        raise UserError(
            f"{self.image} was made by other weights than those in {folders[0]}: their SHA-256 begins with "
            f"{settings['weights'][:12]}; name the model by --model."
        )

    def _edit(self, settings: dict[str, Any], folder: Path, out: Path) -> None:
        """Run the command of an edited picture again."""
        from ddim.cli import command_class
        from ddim.files import write_bytes

        for path, digest in settings["inputs"].items():
            if not Path(path).is_file():
                raise UserError(f"{self.image} was made of {path}, which is not there; put it back.")
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
                raise UserError(f"{self.image} was made of {path}, which has changed; put the first one back.")
        flags = dict(settings["command"])
        name = flags.pop("name")
        if name not in EDITS:
            raise UserError(f"{self.image} was made by an unknown command, {name!r:.40}; take a newer ddim.")
        command = rebuilt(command_class(name), flags | {"run_folder": str(folder)})
        command = replace(command, out=out, edit=replace(command.edit, device=self.device))
        if "index" not in settings:
            command.run()
            return
        with TemporaryDirectory() as files:  # one of several
            replace(command, out=Path(files)).run()
            write_bytes(out, Path(files, f"{settings['index']:06d}.png").read_bytes())

    def _sample(self, settings: dict[str, Any], folder: Path, out: Path) -> None:
        """Draw the samples of a grid, or the batch of one image, again."""
        from ddim.pictures import write_grid

        model, one = self._loaded(settings, folder), settings.get("batch")
        if one is None:
            if "first" not in settings or "batch_size" not in settings:
                raise KeyError("batch_size")
            labels = settings["labels"] and [int(label) for label in settings["labels"].split(",")]
            count = number("The count", settings["count"], int, 1)
            labels = labels and labels * (count // len(labels))
            pixels = draw(model, settings, folder, settings["first"], count, labels)
            write_grid(pixels, out, self._columns(settings, model, count), settings)
            return
        pixels = draw(model, settings, folder, one["first"], one["count"], one["labels"])
        write_one(pixels[settings["index"] - one["first"]], out, settings)

    def _columns(self, settings: dict[str, Any], model: "Denoiser", count: int) -> int | None:
        """Return the columns of a grid, as `ddim sample` chooses them."""
        if settings["labels"] is None:
            return model.classes if model.classes is not None and count > model.classes else None
        given = settings["labels"].count(",") + 1
        return given if 1 < given < count else None

    def _loaded(self, settings: dict[str, Any], folder: Path) -> "Denoiser":
        """Return the model on the device, with the backend of the picture."""
        from ddim.backends import serve
        from ddim.device import choose_device
        from ddim.loading import load

        model = load(folder, checkpoint=settings["checkpoint"], raw=settings["raw"], backend="torch")
        backend, _, precision = str(settings.get("backend", "torch fp32")).rpartition(" ")
        precision = precision if precision in ("fp32", "bf16") else "auto"
        return serve(model.to(choose_device(self.device)), backend or "torch", precision)

    def _difference(self, out: Path, settings: dict[str, Any]) -> str:
        """Return how far the new picture is from the old one, as text. Raises `UserError` if it is another one."""
        old, new = frames(self.image), frames(out)
        if old.shape != new.shape:
            raise UserError(
                f"{out} has another size than {self.image}; the file has been changed since it was written."
            )
        most = int(abs(old - new).max())
        if most > TOLERANCE:
            raise UserError(
                f"{out} differs from {self.image} by up to {most} of 255 grey levels: the file was changed after it "
                f"was drawn by ddim {settings.get('ddim')} with {settings.get('backend')}, or this version or "
                "machine is another one; repeat it with the same."
            )
        return f"{self.image} again, bit for bit" if not most else f"like {self.image} up to {most} of 255 grey levels"


def draw(
    model: "Denoiser", settings: dict[str, Any], folder: Path, first: int, count: int, labels: list[int] | None
) -> "Tensor":
    """Return the samples that settings describe, (count, C, H, W) uint8."""
    from ddim import samplers
    from ddim.loading import load
    from ddim.samplers import Corrected

    preset, eta, spacing = settings.get("preset") or {}, settings["eta"], settings["spacing"]
    options = preset.get("options") or ({} if eta is None else {"eta": eta})
    sampler = samplers.get(settings["sampler"], **options)
    if preset.get("shift") or preset.get("corrections"):
        sampler = Corrected(sampler, preset["shift"], preset["corrections"])
    weight, weak = settings["guidance"], None
    if settings.get("autoguide") is not None:
        weight = settings["weight"]
        weak = load(folder, checkpoint=settings["autoguide"], raw=settings["raw"], backend="torch").to(model.device)
    interval = settings.get("guidance_interval")
    return model.sample(
        count,
        steps=settings["steps"] if isinstance(spacing, str) else None,
        sampler=sampler,
        spacing=spacing,
        seed=settings["seed"],
        first=first,
        labels=labels,
        conditions=settings.get("conditions"),
        guidance=weight,
        guidance_interval=interval and (interval[0], math.inf if interval[1] == "inf" else interval[1]),
        weak=weak,
        clip=settings["clip"],
        batch_size=settings["batch_size"],
        pixels=True,
    )


def frames(path: Path) -> "NDArray[Any]":
    """Return the images of a picture, (N, H, W, 3) of whole numbers; N is 1 unless it moves."""
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        return np.stack([np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(picture)])


def write_one(image: "Tensor", out: Path, settings: dict[str, Any]) -> None:
    """Write one image, (C, H, W) uint8, with its settings."""
    from ddim.files import write_bytes
    from ddim.pictures import pngs

    write_bytes(out, next(pngs(image[None], [settings])))


def _weights(folder: Path, settings: dict[str, Any]) -> str | None:
    """Return the fingerprint of the weights in a folder, or in the checkpoint that a file names; None without."""
    from ddim.model_io import fingerprint
    from ddim.train.checkpoints import path_of

    step = settings.get("checkpoint")
    try:
        return fingerprint(folder if step is None else path_of(folder, number("The checkpoint", step, int, 0)))
    except UserError:
        return None


def rebuilt(cls: Any, flags: dict[str, Any]) -> Any:
    """Return the dataclass of a command from its flags as `ddim.cli.editing.plain` wrote them."""
    values, hints = {}, get_type_hints(cls)
    for one in fields(cls):
        if one.name not in flags:
            continue
        value = flags[one.name]
        if is_dataclass(hints[one.name]):
            value = rebuilt(hints[one.name], value)
        elif isinstance(value, list):
            value = tuple(Path(entry) if one.name in FILES else entry for entry in value)
        elif one.name in FILES and value is not None:
            value = Path(value)
        values[one.name] = value
    return cls(**values)
