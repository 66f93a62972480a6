"""The result of the proofs: claims with the numbers that decide them, as JSON and as a table."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ddim.files import json_values

COLUMNS = ("Gaussian", "mixture", "samples", "point mass", "calls", "repeat", "batch")
LEGEND = """\
order: as stated by the solver; Gaussian, mixture: as measured on closed-form data, the lower of two spacings
samples: error of mean and standard deviation of 40,000 samples of the mixture, over the error that is allowed
point mass: error where every step is exact; calls: trajectories with other calls than stated, or a call at t = 0
repeat, batch: difference between two equal runs, and between an image alone and in a batch"""


@dataclass(frozen=True)
class Proof:
    """A claim and the number that decides it."""

    claim: str  # one or two words, the head of a column in the table
    value: float  # measured
    limit: float  # a lower bound on the value ("least") or an upper bound ("most")
    need: Literal["least", "most"] = "most"

    @property
    def passed(self) -> bool:
        """Whether the claim holds; NaN proves nothing."""
        return self.value >= self.limit if self.need == "least" else self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """Return values for a JSON file."""
        return json_values({**asdict(self), "passed": self.passed})  # type: ignore[no-any-return]


def worst(values: Iterable[float]) -> float:
    """Return the largest value, or NaN if any is NaN, which `max` would ignore."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values)


@dataclass(frozen=True)
class Curve:
    """The error at the end of the trajectory against the number of steps."""

    problem: str  # the data, "Gaussian" or "mixture"
    spacing: str  # a name from `ddim.verify.orders.SPACINGS`
    steps: tuple[int, ...]
    errors: tuple[float, ...]  # one for each number of steps
    order: float  # the slope at many steps


@dataclass(frozen=True)
class Verdict:
    """The proofs of one solver."""

    solver: str  # its name, with its options if there are any
    order: int  # the order of convergence that it states
    stochastic: bool  # whether it injects noise
    calls: float  # network calls per step over 50 steps
    proofs: tuple[Proof, ...]  # one for each claim
    curves: tuple[Curve, ...] = ()  # behind the measured orders

    @property
    def passed(self) -> bool:
        """Whether every claim holds."""
        return all(proof.passed for proof in self.proofs)

    def __str__(self) -> str:
        return "\n".join(table_lines([self]))

    def to_dict(self) -> dict[str, Any]:
        """Return values for a JSON file, with None for what is not finite."""
        proofs = [proof.to_dict() for proof in self.proofs]
        return json_values({**asdict(self), "proofs": proofs, "passed": self.passed})  # type: ignore[no-any-return]


def table_lines(verdicts: Sequence[Verdict], identities: Sequence[Proof] = ()) -> Iterator[str]:
    """Yield a table as text: a line for each solver and for each identity. A failing number ends with "!"."""
    rows = [["solver", "calls/step", "order", *COLUMNS, ""]]
    for verdict in verdicts:
        proofs = {proof.claim: proof for proof in verdict.proofs}
        cells = (_number(proofs[name]) if name in proofs else "-" for name in COLUMNS)
        rows.append([verdict.solver, f"{verdict.calls:g}", str(verdict.order), *cells, _mark(verdict.passed)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *numbers in rows:
        aligned = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *aligned]).rstrip()
    yield from LEGEND.splitlines()
    for proof in identities:
        yield f"{_mark(proof.passed)}  {_number(proof):>8}  {proof.claim}"


def _number(proof: Proof) -> str:
    if proof.need == "least" or proof.claim == "samples":
        text = f"{proof.value:.2f}"
    elif proof.value == 0 or proof.value == int(min(proof.value, 1e6)):
        text = f"{proof.value:.0f}"
    else:
        text = f"{proof.value:.0e}"
    return text if proof.passed else f"{text}!"


def _mark(passed: bool) -> str:
    return "pass" if passed else "FAIL"
