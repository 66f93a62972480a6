"""A recipe: everything that decides what a training run makes. TOML files and flags both fill it."""

import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ddim.errors import UserError
from ddim.train.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """What to learn, with which network, and how."""

    data: str = "digits"
    """A data set: digits, mnist, cifar10 or airplanes."""

    classes: str | None = None
    """Keep only these classes, e.g. airplane,ship."""

    image_size: int | None = None
    """Resize the images to this many pixels a side."""

    network: Literal["unet", "plain"] = "unet"
    """unet: residual blocks and attention. plain: the paper's."""

    size: Literal["tiny", "micro", "mini", "small", "base"] = "small"
    """How large the network is."""

    schedule: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "linear"
    """The noise schedule; linear is the paper's."""

    predicts: Literal["eps", "x0", "v"] = "eps"
    """What the network outputs; eps is the paper's."""

    conditional: bool = False
    """Tell the network the class of each image, so that samples can be asked for by class."""

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
    plan_table = table.pop("plan", {})
    if not isinstance(plan_table, dict):
        raise UserError(f"{path} sets plan = {plan_table!r}; write the plan as a table, under a line [plan].")
    plan = _fill(Plan(), plan_table, path)
    return _fill(Recipe(plan=plan), table, path)


def of_run(folder: str | Path) -> Recipe:
    """The recipe that a run was trained by. Raises `UserError` if its config does not hold one."""
    path = Path(folder) / "config.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        return _fill(Recipe(plan=_fill(Plan(), table.pop("plan"), path)), table, path)
    except UserError as error:
        raise UserError(
            f"{folder} was trained by another version of ddim, whose recipe cannot be gone on with; start from its "
            f"weights with --init {folder}, or replace it with --overwrite."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} does not say by what recipe it was trained ({error!r}); train anew.") from error


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
Fields = TypeVar("Fields", Recipe, Plan)


def _fill(default: Fields, table: dict[str, Any], path: Path) -> Fields:
    hints = get_type_hints(type(default))
    for name, value in table.items():
        if name not in hints:
            raise UserError(f"{path} sets {name!r}, which is not one of {', '.join(hints)}; correct it.")
        if not _fits(value, hints[name]):
            raise UserError(f"{path} sets {name} = {value!r}, which is not of the kind {hints[name]}; correct it.")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    return replace(default, **values)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(one, get_args(hint)[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint
