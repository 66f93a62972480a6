"""What the commands that edit images share: images in, images out, and the settings that a PNG keeps."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddim.cli.options import Device, SamplingFlags, numbers, writable
from ddim.errors import UserError
from ddim.text import dimensions, printable

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.denoiser import Denoiser
    from ddim.sampling import SamplingOptions


@dataclass(frozen=True)
class EditFlags(SamplingFlags):
    """How images are made, and on which device."""

    device: Device = None
    conditions: str | None = None
    """Numbers of the vector that conditions the images, e.g. 0.1,0.5; that of no condition if not given."""

    def vector(self) -> list[float] | None:
        """Return the vector of --conditions, the same for all images."""
        return None if self.conditions is None else numbers("conditions", self.conditions, float)

    def chosen(self, eta: float = 0.0) -> "SamplingOptions":
        """Return the options for sampling, with DDIM and this eta if neither a sampler nor an eta is given."""
        options = self.options()
        if options.get("sampler") is None and options.get("eta") is None:
            options |= {"sampler": "ddim", "eta": eta}
        return options


@dataclass(frozen=True)
class Editor:
    """A model, ready to edit, and what a PNG keeps of how its images were made.

    Attributes:
        model: on its device; the network is computed by PyTorch.
        name: the name or path that the user gave.
        inputs: path -> SHA-256 of each file that was read.
    """

    model: "Denoiser"
    name: str
    folder: Path
    inputs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str, device: str | None) -> "Editor":
        """Load the model of a name or path. Raises `UserError` as `ddim.load` does."""
        from ddim.device import choose_device
        from ddim.loading import find, load

        folder = find(name)
        return cls(load(folder, backend="torch").to(choose_device(device)), name, folder)

    def image(self, path: Path, shape: tuple[int, ...] | None = None, what: str = "An image of the model") -> "Tensor":
        """Return the image in a file, (C, H, W) in [-1, 1].

        Args:
            path: of a PNG, JPEG, WebP, BMP, TIFF, GIF or PNM.
            shape: (C, H, W) that it must have; None is the model's.
            what: begins the error message of another size or mode.

        Raises:
            UserError: a file that cannot be read, a sheet, or another size or mode.
        """
        import numpy as np
        import torch

        shape = self.model.shape if shape is None else shape
        flat = self._decoded(path)
        if (flat.height, flat.width) != tuple(shape[1:]):
            raise UserError(
                f"{what} has {dimensions(shape[1:])} pixels, and {path} has {flat.height} × {flat.width}; resize it "
                "first."
            )
        pixels = torch.from_numpy(np.array(flat.convert("RGB"))).permute(2, 0, 1)
        if shape[0] == 1:
            if not (pixels == pixels[:1]).all():
                raise UserError(f"{what} is grey, and {path} is in colour; convert it to grey first.")
            pixels = pixels[:1]
        elif shape[0] != 3:
            raise UserError(f"{what} has {shape[0]} channels, and a picture 1 or 3; call ddim.edit from Python.")
        return pixels.float() / 127.5 - 1

    def mask(self, path: Path) -> "Tensor":
        """Return the mask in a file, (H, W) bool: white where a pixel is known, black where it is not.

        Raises `UserError` for a file that cannot be read, another size, or grey pixels.
        """
        import numpy as np
        import torch

        flat = self._decoded(path).convert("L")
        height, width = self.model.shape[1:]
        if (flat.height, flat.width) != (height, width):
            raise UserError(
                f"The mask {path} has {flat.height} × {flat.width} pixels, and the model's images have {height} × "
                f"{width}; make it the same size."
            )
        pixels = torch.from_numpy(np.array(flat))
        if not ((pixels == 0) | (pixels == 255)).all():
            raise UserError(f"The mask {path} has grey pixels; make the known ones white and the others black.")
        return pixels > 0

    def _decoded(self, path: Path) -> Any:
        """Return the picture in a file as Pillow has it, in mode L or RGB, and note its SHA-256."""
        import io

        from PIL import Image

        from ddim.data.decode import FORMATS, flatten, is_sheet

        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"Could not read {path}: {error.strerror}; give the file of an image.") from error
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if is_sheet(picture):
                    raise UserError(f"{path} is a sheet of images that ddim drew; give a file with one image.")
                flat = flatten(picture, picture.format or "?")
        except UserError:
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on a broken file
            raise UserError(f"{path} holds no image that can be read; give a PNG, JPEG, WebP, BMP or TIFF.") from error
        self.inputs[str(path)] = hashlib.sha256(content).hexdigest()
        return flat

    def labels(self, text: str | None, count: int) -> "Tensor | None":
        """Return the class of each of `count` images from the flag --labels: one for all, or one for each."""
        import torch

        from ddim.contract import check_labels

        if text is None:
            return None
        if self.model.classes is None:
            raise UserError(f"{self.name} was trained without classes; leave out --labels.")
        given = numbers("labels", text, int)
        if len(given) not in (1, count):
            raise UserError(f"--labels takes one class, or one for each of the {count} images; got {len(given)}.")
        return check_labels(torch.tensor(given), self.model.classes).expand(count)

    def write_variations(self, command: Any, image: "Tensor", shown: "Tensor", out: Path) -> None:
        """Write a sheet: the images to show, then the variations of an image that `ddim vary` or `ddim blend` asks for.

        Args:
            command: gives the strength, the seed, the count, the labels, the guidance and the flags `edit`.
            image: (1, C, H, W) in [-1, 1], which is varied.
            shown: (N, C, H, W) in [-1, 1], which come first.
            out: a PNG file.
        """
        import torch

        from ddim.edit import vary
        from ddim.pictures import to_uint8, write_grid

        options, labels = command.edit.chosen(), self.labels(command.labels, 1)
        asked = {"seed": command.seed, "count": command.count, "guidance": command.guidance}
        settings = self.settings(command, options, **asked, labels=command.labels)
        vector = command.edit.vector()
        found = vary(self.model, image, command.strength, labels=labels, conditions=vector, **asked, **options)[0]
        columns = None if command.count > 10 else len(shown) + command.count
        write_grid(to_uint8(torch.cat([shown, found])), out, columns, settings)

    def settings(self, command: Any, options: "SamplingOptions", **more: Any) -> dict[str, Any]:
        """Return what a file keeps: the model, the sampler with its times, the command with its flags, and the inputs.

        `options` are those that the command in fact takes. `ddim replay` runs the command again.
        """
        from ddim import __version__
        from ddim.model_io import fingerprint

        model = self.model
        _, levels = model.sampling.resolve(model.schedule, **options)
        return {
            "model": self.folder.resolve().name,
            "weights": fingerprint(self.folder),
            **model.sampling.settings(model.schedule, **options),
            "timesteps": [float(level.t) for level in levels],
            "command": {"name": type(command).__name__.lower(), **plain(command)},
            "inputs": dict(self.inputs),
            **more,
            "backend": model.backend,
            "ddim": __version__,
        }


def plain(command: Any) -> dict[str, Any]:
    """Return the flags of a command as plain data, without the places of its model and of its output."""

    def simple(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: simple(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [simple(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {name: simple(value) for name, value in asdict(command).items() if name not in ("out", "run_folder")}


def png(out: Path | None, default: str) -> Path:
    """Return the path of a sheet. Raises `UserError` for a name that is no PNG, or a folder that takes no files."""
    path = Path(default) if out is None else out
    if path.suffix.lower() != ".png":
        raise UserError(f"The picture is a PNG, and --out is {path}; give a name that ends in .png.")
    writable(path.parent)
    return path


def stem(path: str | Path) -> str:
    """Return the name of an input without its folder and suffix, as part of the name of an output."""
    return printable(Path(path).stem)


def write_codes(path: Path, codes: "Tensor", settings: dict[str, Any]) -> None:
    """Write codes and their settings to a .npz file. Raises `UserError` if it cannot be written."""
    import io

    import numpy as np

    from ddim.files import write_bytes

    writable(path.parent)
    content = io.BytesIO()
    np.savez(content, codes=codes.cpu().numpy(), settings=np.array(json.dumps(settings)))
    write_bytes(path, content.getvalue())


def read_codes(path: Path, editor: Editor) -> "tuple[Tensor, dict[str, Any]]":
    """Return the codes of a file that `write_codes` wrote, and their settings.

    Raises `UserError` for a file that cannot be read, or codes of another model.
    """
    import io

    import numpy as np
    import torch

    from ddim.model_io import fingerprint

    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            codes, settings = torch.from_numpy(file["codes"]), json.loads(str(file["settings"]))
    except OSError as error:
        raise UserError(f"Could not read {path}: {error.strerror or error}; give a file of `ddim encode`.") from error
    except Exception as error:  # what a broken archive raises depends on the damage
        raise UserError(f"{path} holds no codes of `ddim encode`; encode the images first.") from error
    if not isinstance(settings, dict) or settings.get("weights") != fingerprint(editor.folder):
        raise UserError(f"{path} was encoded by another model than {editor.name}; name that one.")
    editor.inputs[str(path)] = hashlib.sha256(content).hexdigest()
    return codes, settings
