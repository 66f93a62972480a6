"""What is found out about a solver: claims, each with the number that decides it."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Proof:
    """One claim, and the number that bears it out or not.

    Attributes:
        claim: in a word or two; it heads a column of the table.
        value: what was measured.
        limit: what it is held against.
        need: whether the value must not be below the limit ("least") or not above it ("most").
    """

    claim: str
    value: float
    limit: float
    need: Literal["least", "most"] = "most"

    @property
    def passed(self) -> bool:
        """Whether the claim holds; a value that is no number proves nothing."""
        return self.value >= self.limit if self.need == "least" else self.value <= self.limit

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "passed": self.passed}


def worst(values: Iterable[float]) -> float:
    """The largest, or no number if one of them is none: `max` would pass over it."""
    found = list(values)
    return math.nan if any(map(math.isnan, found)) else max(found)


@dataclass(frozen=True)
class Curve:
    """The error at the end of a ladder against its number of steps.

    Attributes:
        problem: the data, "Gaussian" or "mixture".
        spacing: how the steps are spread.
        steps, errors: one error for each number of steps.
        order: the slope, where there are many steps.
    """

    problem: str
    spacing: str
    steps: tuple[int, ...]
    errors: tuple[float, ...]
    order: float


@dataclass(frozen=True)
class Verdict:
    """All that was found out about one solver.

    Attributes:
        solver: its name, with the options if there are any.
        order: what it states.
        stochastic: whether it draws noise.
        calls: network calls for each step of a ladder of 50.
        proofs, curves: see there.
    """

    solver: str
    order: int
    stochastic: bool
    calls: float
    proofs: tuple[Proof, ...]
    curves: tuple[Curve, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every claim holds."""
        return all(proof.passed for proof in self.proofs)

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        facts = {**asdict(self), "proofs": [proof.facts() for proof in self.proofs], "passed": self.passed}
        return _plain(facts)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    """With null for what is no finite number, since JSON has no word for that."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
