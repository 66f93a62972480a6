"""`ddim sample`: new images from a model."""

import hashlib
import math
import re
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.guidance import GuidanceFlags
from ddim.cli.options import BackendFlags, Device, PathFlag, PlanFlags, SamplingFlags, numbers, writable
from ddim.errors import Notice, UserError
from ddim.text import counted

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.denoiser import Denoiser
    from ddim.presets import Preset
    from ddim.sampling import SamplingOptions

BATCH = 64
SHORT = 1.0  # seconds: preparing a backend takes about as long
NAME = 100  # characters of a picture's name


@dataclass(frozen=True)
class Sample:
    """Draw new images from a model, as one picture, as a folder of files or as one array.

    For example:
      ddim sample runs/digits
      ddim sample runs/digits --steps 10 --count 100 --out digits.png
      ddim sample runs/digits --seconds 5 --count 100
      ddim sample runs/digits --quality fast
      ddim sample runs/digits --sampler ddpm --steps 1000
      ddim sample runs/digits --eta hat --spacing quadratic
      ddim sample runs/digits --labels 3 --count 10
      ddim sample runs/digits --sampler mine --plugin mine.py
      ddim sample runs/digits --count 5000 --out generated/
      ddim sample runs/digits --count 50000 --out images.npz
      torchrun --nproc-per-node 4 -m ddim sample runs/digits --count 50000 --out images.npz
      ddim sample runs/digits --checkpoint 1800 --raw
      ddim sample mnist --guidance 2 --guidance-interval 0.3 5
      ddim sample runs/digits --autoguide 1000 --weight 1.5
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
    conditions: str | None = None
    """For a model that was trained with vectors: the vector of all images, e.g. 0.5,-1; any vector if not given."""
    clip: bool = True
    """Clip each predicted x0 to [-1, 1]."""
    batch_size: int | None = None
    """Number of images to sample together, 64 if not given; it changes the speed, not the images."""
    out: PathFlag | None = None
    """A .png file for one grid, a folder for one file per image, or a .npy or .npz file for one array, in the range and
    type of the arrays that the model was trained on; if not given, a grid in RUN/samples, named after the settings.
    Repeat a command that was interrupted: it continues."""
    checkpoint: int | None = None
    """Use the weights saved at this training step, one of those in RUN/checkpoints."""
    raw: bool = False
    """Use the latest weights instead of the averaged ones."""
    device: Device = None
    guided: GuidanceFlags = field(default_factory=GuidanceFlags)
    sampling: SamplingFlags = field(default_factory=SamplingFlags)
    planned: PlanFlags = field(default_factory=PlanFlags)
    compute: BackendFlags = field(default_factory=BackendFlags)

    def run(self) -> dict[str, Any]:
        import torch

        from ddim.backends import serve
        from ddim.cli.drawing import batches, check_room, connect, draw_missing, drawn
        from ddim.contract import check_vectors
        from ddim.device import choose_device
        from ddim.loading import comes_with_ddim, find, load
        from ddim.noise import stream
        from ddim.pictures import layout, write_grid
        from ddim.writers import ARRAYS, BLOCK, PngFolder, Request, Writer

        self.planned.check(self, self.sampling)
        folder = find(self.run_folder)
        kind = "grid" if self.out is None else _kind(self.out)
        distributed = connect(self.device)
        if distributed is not None and distributed.rank:
            warnings.simplefilter("ignore", Notice)  # the first process says it
        device = choose_device(self.device) if distributed is None else distributed.device
        model = load(folder, checkpoint=self.checkpoint, raw=self.raw, backend="torch").to(device)
        weak = self.guided.weak(folder, self.checkpoint, self.raw)
        weak = weak and weak.to(device)
        labels = self._labels(model.classes)
        vector = None if self.conditions is None else numbers("conditions", self.conditions, float)
        count = self.count if self.count is not None else len(labels) if labels else 64
        check_vectors(model, vector, count)
        if labels and count % len(labels):
            raise UserError(
                f"--labels gives {len(labels)} classes and --count asks for {count} images; give a count that is a "
                "multiple of the classes, or one class for each image."
            )
        stream(self.seed, self.first), stream(self.seed, self.first + max(count, 1) - 1)  # refuse numbers out of range
        if model.shape[0] not in (1, 3) and kind in ("grid", "folder"):
            raise UserError(
                f"{self.run_folder} draws images of {model.shape[0]} channels, and pictures have 1 or 3; name a .npy "
                "or .npz file for --out."
            )
        # By default inside the run, but never in the package.
        parent = Path("samples") if comes_with_ddim(folder) else folder / "samples"
        place = writable(parent if self.out is None else self.out if kind == "folder" else self.out.parent)
        size = BATCH if self.batch_size is None else self.batch_size
        if count < 1 or size < 1:
            raise UserError(f"Ask for at least 1 image, in batches of at least 1; got {count} and {size}.")
        turns = labels is None and model.classes is not None and count > model.classes
        columns = model.classes if turns else len(labels) if labels and 1 < len(labels) < count else None
        if kind == "grid":
            if distributed is not None:
                raise UserError("One process draws a grid; leave out torchrun, or name a folder, a .npy or .npz file.")
            layout(count, (model.shape[1], model.shape[2]), columns)  # refuse a picture that is too large
        if self.planned.seconds is not None and distributed is not None:
            raise UserError("One process plans for --seconds; leave out torchrun, or give --steps.")
        short = count <= size and distributed is None and self.planned.seconds is None
        for one in filter(None, (model, weak)):
            serve(one, self.compute.backend, self.compute.precision, spare=SHORT if short else 0.0)
        writers: dict[str, type[Writer]] = {**ARRAYS, "folder": PngFolder}
        values = model.values if kind in ARRAYS else None
        there = None
        if self.out is not None and kind in writers:
            there = writers[kind](self.out, Request(range(1), model.shape, {}, values=values))
        guided, main = self.guided.options(), distributed is None or distributed.main
        options, plan = self.sampling.options(), self.planned.plan(model, count, there, main, weak=weak, **guided)
        if plan:
            options, size = {"steps": plan["steps"]}, plan["batch_size"]
        preset = model.preset(**options)
        settings = self._settings(model, folder, options, preset) | ({"plan": plan} if plan else {})
        settings |= {"batch_size": size} | ({} if values is None else {"values": asdict(values)})
        out = self.out
        if out is None:
            name = f"{self._name(model, settings, preset, len(labels) if labels else 64, count)}.png"
            out = parent / (f"{self.run_folder}-{name}" if comes_with_ddim(folder) else name)
        if preset is not None:  # found once: `sample` would look for it at each batch
            options = {"sampler": preset.create(), "spacing": preset.times}
            if not self.guided.given:
                guided = {"guidance": preset.guidance, "guidance_interval": preset.guidance_interval}
        method, levels = model.sampling.resolve(model.schedule, **options)
        results = {"out": str(out), "count": count, "calls": method.calls(levels)}
        rows = range(self.first, self.first + count)
        in_turn = (
            None
            if model.classes is None
            else [(self.first + i) % model.classes for i in range(min(model.classes, count))]
        )
        request = Request(rows, model.shape, settings, in_turn if labels is None else labels, values)

        def sample(part: range, progress: bool) -> "Tensor":
            return model.sample(
                len(part),
                **options,
                seed=self.seed,
                first=part.start,
                labels=request.labels_of(part),
                conditions=vector,
                **guided,
                weak=weak,
                clip=self.clip,
                batch_size=size,
                progress=progress,
                pixels=values is None,
            )

        draw = partial(drawn, sample, size)
        if kind == "grid":
            began = time.monotonic()
            images = torch.cat([images for _, images in draw(batches(rows, size), count)])
            self.planned.report(began)
            settings |= {"backend": model.backend, "first": self.first, "count": count}
            write_grid(images, out, columns, settings)
            print(f"{counted(count, 'image')} in {out} ({model.backend}).")
            return {**results, "seconds": time.monotonic() - began, "backend": model.backend}
        image = BLOCK if kind == "folder" else math.prod(model.shape) * (1 if values is None else values.itemsize)
        check_room(place, count, count * image, of_all=True)
        with nullcontext() if distributed is None else distributed.main_first():
            for one in filter(None, (weak, model)):
                weight = 1.0 if weak else settings["guidance"]
                settings["backend"] = one.prepare(min(size, count), weight, settings["steps"])
        writer = writers[kind](out, request)
        began = time.monotonic()
        new = draw_missing(draw, writer, size, place, distributed)
        if main:
            if new:
                self.planned.report(began)
            what = f"{counted(count, 'image')} in {out}"
            print(f"{what} ({model.backend})." if new else f"Nothing is left to do: {what}.")
        return {**results, "seconds": time.monotonic() - began, "backend": model.backend}

    def _labels(self, classes: int | None) -> list[int] | None:
        labels = None if self.labels is None else numbers("labels", self.labels, int)
        for label in labels or []:
            if classes is not None and not -1 <= label < classes:
                raise UserError(f"--labels takes classes from 0 to {classes - 1}, or -1 for any class; got {label}.")
        return labels

    def _settings(
        self, model: "Denoiser", folder: Path, options: "SamplingOptions", preset: "Preset | None"
    ) -> dict[str, Any]:
        """Return what determines the images, for the files. Raises `UserError` for options that the model refuses."""
        from ddim import __version__
        from ddim.model_io import fingerprint
        from ddim.train.checkpoints import newest, path_of

        step = newest(folder) if self.raw and self.checkpoint is None else self.checkpoint
        resolve = partial(model.sampling.resolve, **options) if preset is None else preset.resolve
        return {
            "model": folder.resolve().name,
            "weights": fingerprint(folder if step is None else path_of(folder, step)),
            "checkpoint": step,
            "raw": self.raw,
            "seed": self.seed,
            **(model.sampling.settings(model.schedule, **options) if preset is None else preset.settings()),
            "timesteps": [float(level.t) for level in resolve(model.schedule)[1]],
            **self.guided.settings(folder, preset),
            "labels": self.labels,
            **({} if self.conditions is None else {"conditions": numbers("conditions", self.conditions, float)}),
            "clip": self.clip,
            "ddim": __version__,
        }

    def _name(
        self, model: "Denoiser", settings: dict[str, Any], preset: "Preset | None", usual: int, count: int
    ) -> str:
        """Return a name of the seed and of all settings that are not the model's own, e.g. seed0-ddim-10steps."""
        sampler, steps, spacing, eta = (settings[name] for name in ("sampler", "steps", "spacing", "eta"))
        own, plain = model.sampling, model.sampling.settings(model.schedule, steps=1, sampler=sampler)
        guided, (weight, interval) = self.guided, self.guided.chosen(preset)
        other = (weight, interval) != ((1.0, None) if preset is None else (preset.guidance, preset.guidance_interval))
        distilled = not isinstance(spacing, str) and tuple(spacing) in own.times
        listed = "" if distilled or isinstance(spacing, str) else f"t{'-'.join(map(_short, spacing))}"
        chosen = {
            sampler: sampler != own.sampler,
            f"{steps}steps": not listed and steps != min(own.steps, model.schedule.N),
            listed or str(spacing): not distilled and spacing != plain["spacing"],
            f"eta{_short(eta)}": eta != plain["eta"],
        }
        parts = {
            f"seed{self.seed}": True,
            **(chosen if preset is None else {f"preset{preset.calls}": True}),
            f"guidance{_short(weight)}": other and guided.autoguide is None,
            f"interval{'-'.join(map(_short, interval or ()))}": other and interval is not None,
            f"autoguide{guided.autoguide}-weight{_short(guided.weight)}": guided.autoguide is not None,
            f"labels{(self.labels or '').replace('-1', 'any').replace(',', '-')}": self.labels is not None,
            "noclip": not self.clip,
            f"{count}images": count != usual,
            f"first{self.first}": self.first != 0,
            f"step{self.checkpoint}": self.checkpoint is not None,
            "raw": self.raw,
        }
        name = re.sub(r"[^\w.+-]+", "_", "-".join(part for part, differs in parts.items() if differs))
        return name if len(name) <= NAME else f"{name[: NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _kind(out: Path) -> str:
    """Return what `out` is to be: "grid", "folder", or the suffix of an array. Raises `UserError` for other files."""
    suffix = out.suffix.lower()
    if out.is_dir() or not suffix:
        return "folder"
    if suffix not in (".png", ".npy", ".npz"):
        raise UserError(
            f"Images are written as PNG or as arrays; name a .png, .npy or .npz file or a folder for --out, not {out}."
        )
    return "grid" if suffix == ".png" else suffix


def _short(value: float | str | None) -> str:
    return str(value).removesuffix(".0")
