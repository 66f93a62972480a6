"""Flags that several commands share, each with one help text, and what reads their values."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from ddim.errors import Number, UserError, number
from ddim.files import user_path

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser
    from ddim.sampling import SamplingOptions
    from ddim.writers import Writer

Device = Annotated[str | None, arg(help="Device: cpu, cuda or mps; the fastest available one if not given.")]
PathFlag = Annotated[
    Path,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: user_path(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    ),
]
"""A path that the user gives: `~` is the home folder, and an empty path is refused."""
DataDir = Annotated[
    PathFlag | None,
    arg(help="Folder with the files of a named data set; if not given, the folder DDIM_DATA, then a download."),
]
Steps = Annotated[
    int | None,
    arg(help="Number of sampling steps S, from 1 to the model's T; the model's own default if not given."),
]


@dataclass(frozen=True)
class SamplingFlags:
    """How samples are drawn. A flag that is not given takes the model's own default."""

    steps: Steps = None
    sampler: str | None = None
    """Name of a sampler (see `ddim list samplers`)."""
    eta: float | Literal["hat", "max"] | None = None
    """Noise to inject, at least 0: 0 is DDIM, 1 is DDPM, hat is sigma-hat, max all noise new. Without --sampler, it
    selects ddim."""
    spacing: str | None = None
    """Name of a spacing (see `ddim list spacings`), or descending timesteps from at most T, e.g. 1000,500,250."""

    def options(self) -> "SamplingOptions":
        """Return the options of `ddim.Denoiser.sample`. Raises `UserError` for timesteps that are not numbers."""
        spacing: str | list[float] | None = self.spacing
        if self.spacing and ("," in self.spacing or self.spacing.replace(".", "", 1).isdigit()):
            spacing = numbers("spacing", self.spacing, float)
        return {"steps": self.steps, "sampler": self.sampler, "eta": self.eta, "spacing": spacing}


@dataclass(frozen=True)
class PlanFlags:
    """What chooses the network calls and the batch size, in place of the flags for them."""

    seconds: float | None = None
    """Choose the best preset or number of steps that draws all images in so many seconds, not counting the time to load
    the model, prepare its backend and measure it."""
    quality: Literal["best", "fast"] | None = None
    """Choose the preset with the smallest Fréchet distance (best), or the one with the fewest network calls of those
    within 10% of it (fast); the model's default if it has none (see `ddim tune`)."""

    def check(self, *others: Any) -> None:
        """Raise `UserError` for both flags, or if a flag of the other dataclasses contradicts one of them."""
        given = [one.name for one in fields(self) if getattr(self, one.name) is not None]
        if len(given) > 1:
            raise UserError("--seconds and --quality both choose the number of network calls; give one of them.")
        for name, flags in product(given, others):
            names = ("steps", "sampler", "eta", "spacing", "batch_size")
            refuse(flags, names, f"contradicts --{name}, which chooses it; leave out one of them.")

    def plan(self, model: "Denoiser", count: int, there: "Writer | None", say: bool, **guided: Any) -> dict[str, Any]:
        """Return the flags and what they choose, `steps` and `batch_size`, as plain data; {} without the flags.

        Args:
            model, count, guided: see `ddim.planner.plan`.
            there: writes to the place of the images; if some are there by a plan for the same flags, it is continued.
            say: whether to print the plan and its reason.
        """
        asked = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        if not asked:
            return {}
        from ddim.planner import plan
        from ddim.progress import note

        begun = there.kept().get("plan") if there else None
        if isinstance(begun, dict) and asked.items() <= begun.items():
            steps, size = (number(f"The {name} of a plan", begun.get(name), int, 1) for name in ("steps", "batch_size"))
            reason = f"Plan: the {steps} steps of the images that are there, in batches of {size}."
            expected = begun.get("expected_seconds")
        else:
            found = plan(model, count, seconds=self.seconds, quality=self.quality, **guided)
            steps, size, expected, reason = found.steps, found.batch_size, found.seconds, found.reason
        if say:
            note(reason)
        return {**asked, "steps": steps, "batch_size": size, "expected_seconds": expected}

    def report(self, began: float) -> None:
        """Say how long sampling took from the time `began` on, if --seconds limits it."""
        if self.seconds is not None:
            from ddim.progress import note

            took = time.monotonic() - began
            over = f" seconds, more than the {self.seconds:g} of --seconds"
            limit = over if took > self.seconds else f" of {self.seconds:g} seconds"
            note(f"Sampling took {took:.3g}{limit}.")


@dataclass(frozen=True)
class BackendFlags:
    """What computes the network when samples are drawn."""

    backend: str = "auto"
    """What computes the network (see `ddim list backends`); auto is the fastest one that is installed and correct on
    this machine, torch the network itself."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the arithmetic; auto is bf16 where that is faster, for the backend auto, and fp32 otherwise."""


@dataclass(frozen=True)
class MeasurementFlags(BackendFlags):
    """The same for a measurement: by default the network itself, so that metrics are comparable between machines."""

    backend: str = "torch"
    """What computes the network (see `ddim list backends`); torch is the network itself, auto the fastest one that is
    installed and correct on this machine."""


def numbers(flag: str, text: str, kind: type[Number]) -> list[Number]:
    """Return the comma-separated numbers of a flag. Raises `UserError` for another entry."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"--{flag} takes {what} with commas between them, e.g. 3,1,4; got {text!r}.") from None


def writable(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that exists. Raises `UserError` if nothing can be written there."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "may not be written" if place.is_dir() else "is a file"
        raise UserError(f"Could not write into {folder}: {place} {reason}; choose another folder.")
    return place


def names(text: str | None) -> list[str] | None:
    """Return comma-separated names; None if the flag was not given."""
    return None if text is None else text.split(",")


def refuse(flags: Any, names: Iterable[str], reason: str) -> None:
    """Raise `UserError` if one of the named flags, fields of a dataclass, has a value other than its default."""
    for flag in fields(flags):
        if flag.name in names and getattr(flags, flag.name) != flag.default:
            raise UserError(f"--{flag.name.replace('_', '-')} {reason}")
