"""`config.json`, the description of a model: its types, its limits, and the one function that reads it."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddim import __version__
from ddim.errors import UserError
from ddim.files import json_values, read_table, unreadable
from ddim.schedule import LONGEST

FORMAT = 1  # raised when an older ddim could no longer read what this one writes

Times = Annotated[int, Meta(ge=1, le=LONGEST)]
Channels = Annotated[int, Meta(ge=1, le=64)]
Side = Annotated[int, Meta(ge=1, le=1024)]
Classes = Annotated[int, Meta(ge=1, le=1_000_000)]


class _Network(msgspec.Struct):
    name: str
    channels: Any = UNSET
    classes: Classes | UnsetType | None = UNSET


class _Schedule(msgspec.Struct):
    name: str
    T: Times | UnsetType = UNSET
    betas: Annotated[list[float], Meta(max_length=LONGEST)] | UnsetType = UNSET


class _Sampling(msgspec.Struct):
    steps: Times
    sampler: str
    eta: float | str | None
    spacing: str
    times: Annotated[list[Annotated[list[float], Meta(min_length=1, max_length=1000)]], Meta(max_length=100)] = []
    clip: bool = True


Name = Annotated[str, Meta(max_length=200)]


class _Preset(msgspec.Struct, forbid_unknown_fields=True):
    """The types and limits of a `ddim.presets.Preset`, which checks the rest."""

    sampler: Name
    times: Annotated[list[float], Meta(min_length=1, max_length=1000)]
    options: Annotated[dict[Name, float | str | bool | None], Meta(max_length=20)]
    shift: float
    corrections: Annotated[list[Annotated[list[float], Meta(max_length=2)]], Meta(max_length=1000)]
    found: Name
    calls: Annotated[int, Meta(ge=1, le=1000)]
    weights: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    distance: float
    plain: float
    ddim: float
    best_plain: Name
    extractor: Name
    reference: Name
    count: Annotated[int, Meta(ge=1, le=2**53)]
    best_ddim: Name | UnsetType = UNSET
    guidance: float | UnsetType = UNSET
    guidance_interval: tuple[float, float] | UnsetType | None = UNSET


class _Values(msgspec.Struct, forbid_unknown_fields=True):
    """The types of a `ddim.values.Values`, which checks the rest."""

    range: tuple[float, float]
    dtype: Name
    layout: Name


class _Config(msgspec.Struct):
    """What describes the model, with its types and limits. Other entries, e.g. the recipe, are kept as they are."""

    network: _Network
    schedule: _Schedule
    predicts: str
    shape: tuple[Channels, Side, Side]
    classes: Classes | None
    indexed: bool
    sampling: _Sampling
    presets: Annotated[list[_Preset], Meta(max_length=100)] | UnsetType = UNSET
    values: _Values | UnsetType = UNSET
    conditions: Annotated[int, Meta(ge=1, le=4096)] | UnsetType = UNSET


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the `config.json` of a folder, with its unknown entries. Every reader of a config calls this function.

    The limits: T and the default number of steps up to 100,000, images of at most 64 channels and 1,024 pixels a
    side, up to 1,000,000 classes, as many channels in the network as in the images, a file of at most 16 MiB.

    Raises:
        UserError: the file is missing, broken or of a newer format, or describes no model within these limits.
    """
    path = Path(folder) / "config.json"
    try:
        config = read_table(path)
        written = int(config["format"])
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no model: there is no config.json in it; give the folder of a run.") from error
    except OSError as error:
        raise unreadable(path, error, "copy it or train it again") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is not a config that ddim wrote ({error!r}); train it or copy it again.") from error
    if written > FORMAT:
        raise UserError(
            f"{path} has format {written}; ddim {__version__} reads up to {FORMAT}: upgrade ddim to load it."
        )
    check_config(config, path)
    return json_values(config)  # type: ignore[no-any-return]


def check_config(config: dict[str, Any], path: Path) -> None:
    """Check the types and the limits of a config. Raises `UserError` that names the entry, its value and the limit."""
    try:
        known = msgspec.convert(config, _Config)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for a lone surrogate
        problem, _, place = str(error).partition(" - at `$.")
        if place:
            value: Any = config
            for key in re.findall(r"[^.\[\]`]+", place):
                value = value[int(key) if key.isdigit() else key]
            problem = f"{place[:-1]} is {value!r:.40}: {problem}"
        raise UserError(
            f"{path} does not describe a model within the limits of ddim ({problem}); correct it, or train the model "
            "again."
        ) from error
    if known.network.channels not in (UNSET, known.shape[0]):
        raise UserError(
            f"{path} does not describe a model: its network takes {known.network.channels!r} channels, and its images "
            f"have {known.shape[0]}; correct it, or train the model again."
        )
