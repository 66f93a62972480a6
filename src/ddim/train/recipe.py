"""The recipe of a run: the data, the network, and the plan of its training. TOML files and flags both fill it.

Nothing here imports torch, so that `ddim --help` is fast; `ddim.train.run.train` checks the names in a recipe.
"""

import re
import tomllib
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from ddim.errors import UserError
from ddim.files import as_table, read_table, user_path
from ddim.text import did_you_mean

LARGEST = {
    "epochs": 10**6,
    "steps": 10**9,
    "minutes": 10**7,
    "batch_size": 2**16,
    "learning_rate": 1e30,
    "clip": 1e30,
    "accumulate": 2**16,
}
"""The largest value of these fields of a plan; the smallest is above 0. Larger values would fail without an error."""
MAX_SIZE = 1024  # pixels a side
MOST_SNAPSHOTS = 1000


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. Training ends at the first limit reached: epochs, steps or minutes."""

    epochs: float | None = None
    """Passes over the images. Without any limit: 100, the paper's number, and at least 2,000 updates."""

    steps: int | None = None
    """Updates of the weights."""

    minutes: float | None = None
    """Minutes of training."""

    batch_size: int = 64
    """Images in an update, over all processes together."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """Optimizer: adamw, or muon for the hidden convolutions and adamw for the rest."""

    learning_rate: float = 5e-4
    """Learning rate of the optimizer, after the warm-up."""

    warmup: int = 200
    """Updates over which the learning rate rises from 0."""

    cooldown: float = 0.0
    """Share of the training, at its end, over which the learning rate falls to 0."""

    ema: tuple[float, ...] = (0.1, 0.05)
    """Widths of the averaged weights, as shares of the training; the first is saved for use. 0: no averaging."""

    snapshots: int = 16
    """Snapshots of the averages kept at most, from which `ddim average` makes other widths; 0: none."""

    validate: float = 0.05
    """Largest share of the time for measuring how close samples are to the held-out images; the model is then the best
    average that was measured. 0: the last average."""

    clip: float = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it."""

    weighting: str = "simple"
    """How much each noise level counts in the loss: a registered name; `ddim list weightings` shows them."""

    times: Literal["uniform", "stratified", "lognormal"] = "uniform"
    """How a batch draws its times: stratified spreads them evenly over 1 ... T, lognormal over EDM's distribution of
    noise levels."""

    mirror: bool = True
    """Mirror half of the images, if the data set allows it (airplanes do, digits do not)."""

    augment: float = 0.0
    """Probability of each augmentation that the data set allows; the network is told of it, so that samples are not
    augmented. EDM's is 0.12."""

    augmentations: str = ""
    """Strengths in place of the data set's own (`ddim inspect` shows them), e.g. rotate=30,flip=0."""

    label_dropout: float = 0.1
    """Share of the labels replaced by the null class, for classifier-free guidance; for models with classes."""

    accumulate: int = 1
    """Parts in which each process computes its share of a batch: more parts need less memory."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the network's arithmetic; auto is bf16 if the hardware has it, else fp32. Weights are fp32."""

    channels_last: bool = False
    """Store activations channels last, the order that tensor cores are fastest with."""

    compile: bool = False
    """Compile the network first: this takes about a minute, and makes each update faster."""

    seed: int = 0
    """Seed of the first weights, the order of the images, the times and the noise."""

    def __post_init__(self) -> None:
        _check_types(self)
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= largest:
                raise UserError(f"{name} must be a number above 0, at most {largest:,}; got {value}.")
        if self.accumulate > self.batch_size:
            raise UserError(
                f"accumulate must be at most the batch_size of {self.batch_size} images; got {self.accumulate}."
            )
        if not self.ema or not all(width == 0 or 0.001 <= width <= 0.25 for width in self.ema):
            raise UserError(f"ema must be widths from 0.001 to 0.25, or 0 for no averaging; got {self.ema}.")
        if len({f"{width:g}" for width in self.ema}) < len(self.ema):
            raise UserError(f"ema must not contain a width twice; got {self.ema}.")
        for name in ("label_dropout", "augment"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie in [0, 1]; got {getattr(self, name)}.")
        if not 0 <= self.validate <= 0.5:
            raise UserError(f"validate must be a share of the time from 0 to 0.5; got {self.validate}.")
        if not 0 <= self.snapshots <= MOST_SNAPSHOTS:
            raise UserError(f"snapshots must be a number from 0 to {MOST_SNAPSHOTS:,}; got {self.snapshots}.")
        if not 0 <= self.cooldown <= 1:
            raise UserError(f"cooldown must lie in [0, 1]; got {self.cooldown}.")
        if not (0 <= self.warmup < 2**63 and 0 <= self.seed < 2**63):
            raise UserError(f"warmup and seed must be from 0 to 2^63 - 1; got {self.warmup} and {self.seed}.")

    def total_steps(self, images: int) -> int | None:
        """Return the number of updates on a set of so many images; None if only the clock ends training."""
        if self.epochs is self.steps is self.minutes is None:
            return max(2000, -(-100 * images // self.batch_size))
        by_epochs = None if self.epochs is None else max(1, round(self.epochs * images / self.batch_size))
        return min((limit for limit in (self.steps, by_epochs) if limit is not None), default=None)

    def learning_rate_factor(self, step: int, left: float) -> float:
        """Return the factor of the learning rate at an update: it rises, stays at 1, and falls (arXiv 2405.18392).

        `step` counts from 1 on; `left` is the share of the training that is left before this update, in (0, 1].
        """
        rise, fall = step / max(1, self.warmup), left / self.cooldown if self.cooldown else 1.0
        return min(1.0, rise, fall)


@dataclass(frozen=True)
class Recipe:
    """What to learn, with which network, and how."""

    data: str = "digits"
    """The data set: a registered name (`ddim list data` shows them), a folder of images, or a hub id."""

    classes: str | None = None
    """Keep only these classes, e.g. airplane,ship."""

    image_size: int | str | None = None
    """Resize the images to this many pixels a side, or to HEIGHTxWIDTH, e.g. 32x48."""

    crop: Literal["centre", "random", "fit"] = "centre"
    """What is kept of an image of another aspect: a window at its centre or at random, or all, with black bars."""

    range: tuple[float, float] | None = None
    """Of arrays: the numbers that become -1 and 1; if not given, see docs/own-images.md."""

    network: str = "unet"
    """The network: a registered name; `ddim list networks` shows them. Or a class of yours, MODULE:CLASS or
    FILE.py:CLASS, which is imported."""

    size: str = "small"
    """The network's size: one of the names that its class defines; a wrong one lists them."""

    dropout: float | None = None
    """Dropout of the network, from 0 to below 1; that of its size if not given."""

    schedule: str = "linear"
    """The noise schedule: a registered name; `ddim list schedules` shows them. The paper's is linear."""

    predicts: str = "eps"
    """What the network outputs: the noise eps, as in the paper, the image x0, the velocity v, or that of a flow."""

    conditional: bool = False
    """Give the network the class of each image, so that samples can be drawn by class, and the vector of each image,
    if the data have conditions."""

    plan: Plan = field(default_factory=Plan)
    """How to train it."""

    def source(self) -> dict[str, Any]:
        """Return the data as arguments of `ddim.open_images`."""
        return {
            "name_or_path": self.data,
            "classes": self.classes,
            "size": self.image_size,
            "crop": self.crop,
            "range": self.range,
        }

    def __post_init__(self) -> None:
        _check_types(self)
        if not isinstance(self.plan, Plan):
            raise UserError(f"plan must be a Plan; got {self.plan!r}.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be from 0 to below 1; got {self.dropout}.")
        size = str(self.image_size)
        known = re.fullmatch(r"[0-9]{1,4}(x[0-9]{1,4})?", size)
        if self.image_size is not None and not (known and all(0 < int(n) <= MAX_SIZE for n in size.split("x"))):
            raise UserError(
                f"image_size must be from 1 to {MAX_SIZE} pixels, or a height and a width, e.g. 32x48; got {size:.40}."
            )


def read(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file: the fields of `Recipe` at the top, those of `Plan` under [plan].

    Raises:
        UserError: the file is missing or not TOML, or a field or the type of its value is wrong.
    """
    path = user_path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Could not read the recipe {path}: {error.strerror}; check its path.") from error
    except RecursionError as error:
        raise UserError(f"{path} nests too many brackets; a recipe needs one pair at most.") from error
    except ValueError as error:  # of the syntax, of UTF-8, or of a number with thousands of digits
        raise UserError(f"{path} is not TOML: {error}; correct it and try again.") from error
    if not isinstance(table.setdefault("plan", {}), dict):
        raise UserError(f"{path} sets plan = {table['plan']!r}; write the plan as a table, under a line [plan].")
    return _typed(table, path)


def of_run(folder: str | Path) -> Recipe:
    """Return the recipe that a run was trained by. Raises `UserError` if its config does not hold one."""
    path = Path(folder) / "config.json"
    try:
        table = read_table(path)["recipe"]
        return _typed(table, path)
    except UserError as error:
        raise UserError(
            f"{folder} was trained by another version of ddim, whose recipe this one cannot resume; start from its "
            f"weights with --init {folder}, or replace it with --overwrite."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} does not contain the recipe that the run was trained by ({error!r}); train it again."
        ) from error


def source(config: dict[str, Any], run: str | Path, remedy: str) -> str:
    """Return what opens the images of a run, from any working folder: a name, a hub id, or the path of a folder.

    Args:
        config: the run's `config.json`, whose recipe names the data.
        run: the name of the run, for the error.
        remedy: what to do if the images have moved, for the error.

    Raises:
        UserError: the images were in a folder, which is now missing, or the config does not name its data.
    """
    data, place = as_table(config.get("recipe")).get("data"), as_table(config.get("data")).get("place")
    if not isinstance(data, str):
        raise UserError(f"The config.json of {run} does not say which images it was trained on; name the images.")
    if not isinstance(place, str):  # a name or a hub id, or a run of ddim 0.1
        return data
    for path in (place, data):  # the second, if the working folder has moved with all that it holds
        if user_path(path).exists():
            return path
    raise UserError(f"{run} was trained on the images in {place}, which is missing; {remedy}")


def training_data(config: dict[str, Any], run: str | Path, remedy: str) -> dict[str, Any]:
    """Return the images of a run as arguments of `ddim.open_images`. Arguments and errors are those of `source`."""
    own = as_table(config.get("recipe"))
    known = {"name_or_path": source(config, run, remedy), "classes": own.get("classes"), "size": own.get("image_size")}
    return {**known, "crop": own.get("crop", "centre"), "range": own.get("range")}


def shipped(name: str) -> Recipe:
    """Return a recipe that comes with ddim. Raises `UserError` if the name is unknown."""
    path = _FOLDER / f"{name}.toml"
    if not path.is_file():
        guess, known = did_you_mean(name, names()), ", ".join(names())
        raise UserError(f"There is no recipe called {name!r}{guess}; choose one of {known}, or give a TOML file.")
    return read(path)


def names() -> list[str]:
    """Return the names of the recipes that come with ddim."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


_FOLDER = Path(__file__).parent / "recipes"


def _typed(table: dict[str, Any], path: Path) -> Recipe:
    plan = Plan(**_checked(Plan, table["plan"], path))
    rest = {name: value for name, value in table.items() if name != "plan"}
    return Recipe(**_checked(Recipe, rest, path), plan=plan)


def _checked(fields: type, table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Check the names and types in a table against the fields of a dataclass; lists become tuples."""
    hints = get_type_hints(fields)
    for name, value in table.items():
        if name not in hints:
            raise UserError(f"{path} sets {name!r}, which is not one of {', '.join(hints)}; correct it.")
        if allowed := _mismatch(value, hints[name]):
            raise UserError(f"{path} sets {name} = {value!r}; it must be {allowed}.")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _check_types(table: Plan | Recipe) -> None:
    """Check the type of each field; numbers of NumPy become Python's, lists become tuples."""
    for name, hint in get_type_hints(type(table)).items():
        value = _plain(getattr(table, name))
        object.__setattr__(table, name, value)  # frozen, but not yet in use
        if hint is not Plan and (allowed := _mismatch(value, hint)):
            raise UserError(f"{name} must be {allowed}; got {value!r}.")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def _mismatch(value: Any, hint: Any) -> str | None:
    """Return what a value of a type must be; None if the value is of that type."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        if get_origin(hint) is Literal:
            return f"one of {', '.join(get_args(hint))}"
        return _WORDS[get_args(hint)[0] if isinstance(hint, UnionType) else hint]
    return None


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_WORDS |= {tuple[float, ...]: "a list of numbers", tuple[float, float]: "two numbers, low and high"}
