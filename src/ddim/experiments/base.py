"""What an experiment is: its result, what computes it and how it is shown; and the registry of all experiments.

An experiment is one class in one file. `register` makes it part of `ddim reproduce`, of the report and of the
report's Markdown; no other file names it. `docs/extending.md` shows a small one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from matplotlib.figure import Figure
from msgspec import Meta
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.plots.numbers import Estimate
from ddim.registry import Registry

REPORT, REPRODUCE = "ddim report RUN", "ddim reproduce RUN"
VERIFY, COMPARE = "ddim verify RUN", "ddim compare RUN OTHERS --report"

NON_EMPTY = Meta(min_length=1)
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]

Samples = dict[str, Tensor]
Drawing = Figure | bytes | str | None
"""A figure, the bytes of a GIF, a sentence that says why there is nothing to draw, or None if the samples do not fit
the result."""


@dataclass(frozen=True)
class Setup:
    """What experiments are run on."""

    folder: Path  # of the run
    model: Denoiser  # of that run, in eval mode, on the device to use
    train: Images | None = None  # None if no chosen experiment needs images
    test: Images | None = None

    @property
    def images(self) -> tuple[Images, Images]:
        """The training and the held-out images, for an experiment with `needs_images`."""
        assert self.train is not None
        assert self.test is not None
        return self.train, self.test

    @property
    def held_out(self) -> Images:
        """The held-out images, for a mean with an interval. Raises `UserError` if there is one alone."""
        images = self.images[1]
        if len(images) < 2:
            raise UserError(f"{images.name} has {len(images)} held-out image, and an interval needs 2; add images.")
        return images


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base class of the results of all experiments.

    The fields of a subclass are the keys of `results/NAME.json`. Reading checks their types; NaN and Infinity are
    read as None.
    """

    cut: str | None = None  # what a limit of time took away


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    value: float | None = None  # to sort the column by

    @classmethod
    def count(cls, number: int) -> "Cell":
        """Return a cell with a count."""
        return cls(f"{number:,}", number)

    @classmethod
    def estimate(cls, estimate: Estimate | None) -> "Cell":
        """Return a cell with a value and half its interval, or an empty cell."""
        return EMPTY if estimate is None else cls(estimate.short, estimate.value)


EMPTY = Cell("–")


@dataclass(frozen=True)
class Table:
    """A table, with plain text above and below."""

    head: list[str]  # names of the columns
    rows: list[list[Cell]]
    caption: str = ""
    note: str = ""


MARKS = {"holds": "✓", "fails": "✗", "open": "?", "not measured": "–"}


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and what the measured numbers say about it."""

    claim: str  # one sentence
    holds: bool | None  # None if the intervals leave it open, or if nothing was measured
    evidence: str  # the numbers and their intervals, in sentences
    measured: bool = True  # whether there are such numbers

    @classmethod
    def not_measured(cls, claim: str, required: str) -> "Claim":
        """Return the claim where numbers are missing; `required` says what has to be measured."""
        return cls(claim, None, f"This requires {required}.", measured=False)

    @property
    def verdict(self) -> str:
        """One of `MARKS`."""
        if self.holds is None:
            return "open" if self.measured else "not measured"
        return "holds" if self.holds else "fails"


@dataclass(frozen=True)
class Extra:
    """One more figure of the same result, in a section of its own below the experiment's."""

    name: str  # of its file in `figures/` and of its section
    title: str  # a few words
    caption: str  # HTML
    figure: Callable[[Any, Samples], Drawing]  # (result, samples) -> the figure


R = TypeVar("R", bound=Result)


class Experiment(Generic[R]):
    """Base class of experiments."""

    name: str
    title: ClassVar[str]  # of its section, a few words
    reference: ClassVar[str]  # where the papers show the same, e.g. "DDIM, Table 2"
    caption: ClassVar[str]  # what the figure shows, in HTML
    result_type: ClassVar[type[Result]]  # the dataclass of its result
    share: ClassVar[float]  # of the minutes, relative to the others; 0 if only `command` makes it, without `run`
    command: ClassVar[str] = REPRODUCE  # makes the result
    place: ClassVar[int] = 1000  # sections are sorted by it, and experiments run in that order
    runs_last: ClassVar[bool] = False  # whether it runs after all others and gets the time that they left
    needs: ClassVar[tuple[str, ...]] = ()  # names of experiments whose samples it uses; they run first
    needs_images: ClassVar[bool] = True  # whether it needs the data set
    tensors: ClassVar[dict[str, int]] = {}
    """The samples that it keeps, by name, with their number of dimensions; with four or more they are uint8 images
    of the model's shape. They lie in `samples/NAME.safetensors`; a name such as "ddim/images" means the tensor
    "images" in `samples/ddim.safetensors`."""
    shows_samples: ClassVar[bool] = True  # whether `figure` uses the samples
    section: ClassVar[str] = ""  # name of its section and files in `figures/`; the experiment's name if empty
    extras: ClassVar[tuple[Extra, ...]] = ()

    def unsuitable(self, model: Denoiser) -> str:
        """Return why the experiment does not apply to a model, as a sentence; empty if it applies."""
        return ""

    def calls(self, model: Denoiser) -> float:
        """Return the network calls on single images that the experiment takes if nothing is cut."""
        raise NotImplementedError

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[R, Samples]:
        """Compute the result and the samples named in `tensors`, cut to about `seconds` unless that is None."""
        raise NotImplementedError

    def figure(self, result: R, samples: Samples) -> Drawing:
        """Draw the result."""
        raise NotImplementedError

    def tables(self, result: R) -> list[Table]:
        """Return the tables below the figure."""
        return []

    def claims(self, result: R | None, T: int) -> list[Claim]:
        """Return the claims that the result decides, with verdicts; `result` is None if there is none."""
        return []

    def note(self, result: R, model: Denoiser) -> str:
        """Return what to say about this run's result alone, in plain text."""
        return ""

    def upgrade(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON of an earlier version with today's keys."""
        return facts


PARTS = ("title", "reference", "caption", "result_type", "share")  # that an experiment needs
experiments: Registry[Experiment[Any]] = Registry("experiment")

_Class = TypeVar("_Class", bound=type[Experiment[Any]])


def register(name: str) -> Callable[[_Class], _Class]:
    """Register an `Experiment` class under a name; used as a decorator.

    Raises:
        TypeError: at import, if the class lacks one of the parts of an experiment.
    """

    def file(cls: _Class) -> _Class:
        lacking = [part for part in PARTS if not hasattr(cls, part)]
        methods = ("figure", "calls", "run") if getattr(cls, "share", 1) else ("figure",)
        lacking += [part for part in methods if getattr(cls, part) is getattr(Experiment, part)]
        if lacking:
            raise TypeError(f"The experiment {name!r} ({cls.__name__}) lacks {', '.join(lacking)}.")
        experiments[name] = cls()
        experiments[name].name = name
        return cls

    return file


def root(formula: str) -> str:
    """Return the square root of a formula, in the HTML of captions."""
    return f'√<span class="root">{formula}</span>'
