"""What a finding is, and the registry of all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ddim.registry import Registry
from ddim.run_folder import RunFolder

Verdict = Literal["fine", "act", "unclear", "not measured"]
MARKS: dict[Verdict, str] = {"act": "✗", "unclear": "?", "fine": "✓", "not measured": "–"}
"""Each verdict and its mark, in the order in which the findings are listed."""


@dataclass(frozen=True)
class Diagnosis:
    """What a function that is registered as a finding returns."""

    verdict: Verdict
    evidence: str  # what the numbers show, in sentences; intervals are of 95%
    advice: str = ""  # what to do, in sentences; empty if there is nothing to do


@dataclass(frozen=True)
class Finding:
    """A diagnosis with the subject that it is about."""

    name: str  # under which it is registered
    subject: str
    verdict: Verdict
    evidence: str
    advice: str


Examine = Callable[[RunFolder], Diagnosis]

findings: Registry[tuple[str, Examine]] = Registry("finding")


def register(name: str, subject: str) -> Callable[[Examine], Examine]:
    """Return a decorator that registers a function of a run as a finding about a subject."""

    def decorate(function: Examine) -> Examine:
        findings[name] = subject, function
        return function

    return decorate


def signed(share: float, decimals: int = 1) -> str:
    """Return a relative change as text with its sign, e.g. "−1.2%"."""
    return f"{share:+.{decimals}%}".replace("-", "−")


def by_verdict(found: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order of `MARKS`: first what to act on, last what is not measured."""
    return sorted(found, key=lambda one: list(MARKS).index(one.verdict))


def examine(run: RunFolder) -> list[Finding]:
    """Return all findings about a run, by verdict.

    Only the folder is read: nothing is trained or sampled, and no data set is opened.
    """
    diagnoses = ((name, subject, function(run)) for name, (subject, function) in findings.items())
    return by_verdict(Finding(name, subject, one.verdict, one.evidence, one.advice) for name, subject, one in diagnoses)
