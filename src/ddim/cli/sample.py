"""`ddim sample`: new images from a model."""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import BackendFlags, Device, Guidance, PathFlag, SamplingFlags, numbers, writable
from ddim.errors import UserError
from ddim.text import counted, data_size, duration

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.denoiser import Denoiser

BATCH = 64
SHORT = 1.0  # seconds: preparing a backend takes about as long
SLOW = 60  # seconds: a command that takes longer says so first
BLOCK = 4096  # bytes: what a small file takes on the disk
NAME = 100  # characters of a picture's name
OF_ONE = ("index", "label", "ddim", "backend")  # settings in which the images of one folder may differ


@dataclass(frozen=True)
class Sample:
    """Draw new images from a model, as one picture or as a folder of files.

    For example:
      ddim sample runs/digits
      ddim sample runs/digits --steps 10 --count 100 --out digits.png
      ddim sample runs/digits --sampler ddpm --steps 1000
      ddim sample runs/digits --eta hat --spacing quadratic
      ddim sample runs/digits --labels 3 --count 10
      ddim sample runs/digits --sampler mine --plugin mine.py
      ddim sample runs/digits --count 5000 --out generated/
      ddim sample runs/digits --count 5000 --first 5000 --out generated/
      ddim sample runs/digits --checkpoint 1800 --raw
    """

    run_folder: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, e.g. runs/digits, or a model that comes with ddim (see `ddim list models`)."""
    count: int | None = None
    """Number of images; if not given, one for each of --labels, else 64."""
    seed: int = 0
    """Seed of the noise. Image i of a seed is the same in every call."""
    first: int = 0
    """Index of the first image of the seed to draw."""
    labels: str | None = None
    """Class of each image, e.g. 0,1,2, repeated if --count is a multiple; all classes in turn if not given."""
    guidance: Guidance = 1.0
    clip: bool = True
    """Clip each predicted x0 to [-1, 1]."""
    batch_size: int | None = None
    """Number of images to sample together, 64 if not given; it changes the speed, not the images."""
    out: PathFlag | None = None
    """A .png file for one grid, or a folder for one file per image; if not given, a grid in RUN/samples, named after
    the settings."""
    checkpoint: int | None = None
    """Use the weights saved at this training step, one of those in RUN/checkpoints."""
    raw: bool = False
    """Use the latest weights instead of the averaged ones."""
    device: Device = None
    sampling: SamplingFlags = field(default_factory=SamplingFlags)
    compute: BackendFlags = field(default_factory=BackendFlags)

    def run(self) -> None:
        import torch

        from ddim.backends import serve
        from ddim.device import choose_device
        from ddim.loading import comes_with_ddim, find, load
        from ddim.noise import stream
        from ddim.pictures import layout, write_each, write_grid

        folder = find(self.run_folder)
        out, grid = self.out, self.out is None or _is_grid(self.out)
        model = load(folder, checkpoint=self.checkpoint, raw=self.raw, backend="torch").to(choose_device(self.device))
        serve(model, self.compute.backend, self.compute.precision, spare=SHORT)
        labels = self._labels(model.classes)
        count = self.count if self.count is not None else len(labels) if labels else 64
        if labels and count % len(labels):
            raise UserError(
                f"--labels gives {len(labels)} classes and --count asks for {count} images; give a count that is a "
                "multiple of the classes, or one class for each image."
            )
        stream(self.seed, self.first), stream(self.seed, self.first + max(count, 1) - 1)  # refuse numbers out of range
        settings = self._settings(model, folder)
        if model.shape[0] not in (1, 3):
            raise UserError(
                f"{self.run_folder} draws images of {model.shape[0]} channels, and pictures have 1 or 3; draw them "
                "with ddim.load(...).sample(...)."
            )
        if out is None:  # by default inside the run, but never in the package
            name = f"{self._name(model, settings, len(labels) if labels else 64, count)}.png"
            out = Path(f"samples/{self.run_folder}-{name}") if comes_with_ddim(folder) else folder / "samples" / name
        place = writable(out.parent if grid else out)
        if grid:
            in_turn = labels is None and model.classes is not None and count > model.classes
            columns = model.classes if in_turn else len(labels) if labels and 1 < len(labels) < count else None
            layout(count, (model.shape[1], model.shape[2]), columns)  # refuse a picture that is too large
            parts = [images for _, images in self._batches(model, count, labels, None)]
            write_grid(
                torch.cat(parts),
                out,
                columns,
                {**settings, "backend": model.backend, "first": self.first, "count": count},
            )
        else:
            _check_folder(out, range(self.first, self.first + count), settings)
            for rows, images in self._batches(model, count, labels, place):
                classes: Sequence[int | None] = self._classes(model, labels, rows) or [None] * len(rows)
                each = [
                    {**settings, "backend": model.backend, "index": i, "label": label}
                    for i, label in zip(rows, classes, strict=True)
                ]
                write_each(images, out, rows.start, each)
        print(f"{counted(count, 'image')} in {out} ({model.backend}).")

    def _labels(self, classes: int | None) -> list[int] | None:
        labels = None if self.labels is None else numbers("labels", self.labels, int)
        for label in labels or []:
            if classes is not None and not -1 <= label < classes:
                raise UserError(f"--labels takes classes from 0 to {classes - 1}, or -1 for any class; got {label}.")
        return labels

    def _classes(self, model: "Denoiser", labels: list[int] | None, rows: range) -> list[int] | None:
        """Return the class of each image of these indices; None for a model without classes."""
        if labels is not None:
            return [labels[(i - self.first) % len(labels)] for i in rows]
        return None if model.classes is None else [i % model.classes for i in rows]

    def _settings(self, model: "Denoiser", folder: Path) -> dict[str, Any]:
        """Return what determines the images, for the files. Raises `UserError` for options that the model refuses."""
        from ddim import __version__
        from ddim.model_io import fingerprint
        from ddim.train.checkpoints import newest

        step = newest(folder) if self.raw and self.checkpoint is None else self.checkpoint
        return {
            "model": folder.resolve().name,
            "weights": fingerprint(folder) if step is None else None,
            "checkpoint": step,
            "raw": self.raw,
            "seed": self.seed,
            **model.sampling.settings(model.schedule, **self.sampling.options()),
            "guidance": self.guidance,
            "labels": self.labels,
            "clip": self.clip,
            "ddim": __version__,
        }

    def _name(self, model: "Denoiser", settings: dict[str, Any], usual: int, count: int) -> str:
        """Return a name of the seed and of all settings that are not the model's own, e.g. seed0-ddim-10steps."""
        sampler, steps, spacing, eta = (settings[name] for name in ("sampler", "steps", "spacing", "eta"))
        own, plain = model.sampling, model.sampling.settings(model.schedule, steps=1, sampler=sampler)
        listed = "" if isinstance(spacing, str) else f"t{'-'.join(map(_short, spacing))}"
        parts = {
            f"seed{self.seed}": True,
            sampler: sampler != own.sampler,
            f"{steps}steps": not listed and steps != min(own.steps, model.schedule.T),
            listed or spacing: spacing != plain["spacing"],
            f"eta{_short(eta)}": eta != plain["eta"],
            f"guidance{_short(self.guidance)}": self.guidance != 1,
            f"labels{(self.labels or '').replace('-1', 'any').replace(',', '-')}": self.labels is not None,
            "noclip": not self.clip,
            f"{count}images": count != usual,
            f"first{self.first}": self.first != 0,
            f"step{self.checkpoint}": self.checkpoint is not None,
            "raw": self.raw,
        }
        name = re.sub(r"[^\w.+-]+", "_", "-".join(part for part, differs in parts.items() if differs))
        return name if len(name) <= NAME else f"{name[: NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _batches(
        self, model: "Denoiser", count: int, labels: list[int] | None, place: Path | None
    ) -> Iterator[tuple[range, "Tensor"]]:
        """Yield the indices of each batch of images, and the images, (B, C, H, W) uint8.

        After the first batch, say how long all will take if that is long. Raises `UserError` if `place`, where the
        images become files, has no room for them.
        """
        from ddim.data import to_uint8
        from ddim.pictures import pngs
        from ddim.progress import bar

        size = BATCH if self.batch_size is None else self.batch_size
        if count < 1 or size < 1:
            raise UserError(f"Ask for at least 1 image, in batches of at least 1; got {count} and {size}.")
        if place is not None:
            _check_room(place, count, BLOCK * count)
        several, began = count > size, time.monotonic()
        with bar(total=count, desc=f"sampling {count}", unit="image", disable=None if several else True) as progress:
            for start in range(0, count, size):
                rows = range(self.first + start, self.first + min(start + size, count))
                images = to_uint8(
                    model.sample(
                        len(rows),
                        **self.sampling.options(),
                        seed=self.seed,
                        first=rows.start,
                        labels=self._classes(model, labels, rows),
                        guidance=self.guidance,
                        clip=self.clip,
                        batch_size=size,
                        progress=not several,
                    )
                )
                if start == 0:
                    seconds, files = (time.monotonic() - began) / len(rows) * count, ""
                    if place is not None:
                        taken = sum(-(-len(png) // BLOCK) * BLOCK for png in pngs(images))
                        _check_room(place, count, taken * count // len(rows))
                        files = f", and their files about {data_size(taken * count // len(rows))}"
                    if several and seconds > SLOW:
                        print(f"{count:,} images take about {duration(seconds)}{files}.", file=sys.stderr)
                progress.update(len(rows))
                yield rows, images


def _is_grid(out: Path) -> bool:
    """Return whether `out` is to be one picture, not a folder. Raises `UserError` for a file of another kind."""
    if out.is_dir():
        return False
    if out.suffix.lower() not in ("", ".png"):
        raise UserError(f"Pictures are written as PNG; name a .png file or a folder for --out, not {out}.")
    return out.suffix.lower() == ".png"


def _check_folder(folder: Path, rows: range, settings: dict[str, Any]) -> None:
    """Refuse a folder with pictures, unless they are other images of the same settings.

    Remove the drafts of these images that a killed command left.
    """
    from ddim.data.decode import SUFFIXES
    from ddim.pictures import read_settings

    entries = os.listdir(folder) if folder.is_dir() else []
    pictures = [name for name in entries if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
    indices = sorted(int(name[:-4]) for name in pictures if re.fullmatch(r"[0-9]{6,}\.png", name))
    same = len(indices) == len(pictures) and all(
        _common(read_settings(folder / f"{i:06d}.png")) == _common(settings) for i in indices[:1] + indices[-1:]
    )
    if pictures and not (same and not any(i in rows for i in indices)):
        more = f", or draw the images that follow with --first {indices[-1] + 1}" if same else ""
        kind = "of the same settings" if same else "drawn with other settings or not by this command"
        held = f"{counted(len(pictures), 'picture')} already"
        raise UserError(f"{folder} holds {held}, {kind}; name another folder for --out{more}.")
    for name in entries:
        draft = re.fullmatch(r"\.([0-9]{6,})\.ddim-[0-9a-f]{8}\.png", name)
        if draft and int(draft[1]) in rows:
            (folder / name).unlink(missing_ok=True)


def _common(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings that all images of a folder share."""
    return {name: value for name, value in (settings or {}).items() if name not in OF_ONE}


def _check_room(place: Path, count: int, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{count:,} images need about {data_size(needed)} on the disk, and {place} has {data_size(free)} free; "
            "draw fewer, or choose a folder on a larger disk."
        )


def _short(value: float | str | None) -> str:
    return str(value).removesuffix(".0")
