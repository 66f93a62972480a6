"""A recipe: everything that decides what a training run makes. TOML files and flags both fill it."""

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ddim.errors import UserError
from ddim.train.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """What to learn, with which network, and how."""

    data: str = "digits"
    """A data set: digits, mnist, cifar10 or airplanes."""

    classes: tuple[str, ...] | None = None
    """Keep only these classes, e.g. airplane ship."""

    image_size: int | None = None
    """Resize the images to this many pixels a side."""

    network: Literal["unet", "plain"] = "unet"
    """unet: residual blocks and attention. plain: the paper's."""

    size: Literal["tiny", "small", "base"] = "small"
    """How large the network is."""

    schedule: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "linear"
    """The noise schedule; linear is the paper's."""

    predicts: Literal["eps", "x0", "v"] = "eps"
    """What the network outputs; eps is the paper's."""

    plan: Plan = field(default_factory=Plan)
    """How to train it."""


def read(path: str | Path) -> Recipe:
    """The recipe in a TOML file: the fields of `Recipe` at the top, those of `Plan` under [plan].

    Raises:
        UserError: a file that is missing or is not TOML, or a field that there is not.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"Could not read the recipe {path}: {error.strerror}; give the path of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}; correct it and try again.") from error
    plan = table.pop("plan", {})
    return replace(_fill(Recipe(), table, path), plan=_fill(Plan(), plan, path))


def shipped(name: str) -> Recipe:
    """The recipe of that name which comes with ddim. Raises `UserError` if there is none."""
    path = _FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(
            f"There is no recipe called {name!r}; choose one of {', '.join(names())}, or give a TOML file."
        )
    return read(path)


def names() -> list[str]:
    """The recipes that come with ddim."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


_FOLDER = Path(__file__).parent / "recipes"


def _fill(default: Any, table: Any, path: Path) -> Any:
    known = {one.name for one in fields(default)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise UserError(
            f"{path} sets {unknown[0]!r}, which no recipe has; the fields are {', '.join(sorted(known))}."
        )
    if "classes" in table:
        table = {**table, "classes": tuple(table["classes"])}
    return replace(default, **table)
