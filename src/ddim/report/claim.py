"""A claim, and the verdict on it."""

from dataclasses import dataclass

MARKS = {"holds": "✓", "fails": "✗", "open": "?", "not measured": "–"}


@dataclass(frozen=True)
class Claim:
    """A claim, and what the numbers say of it.

    Attributes:
        plate: the figure that shows it.
        claim: a sentence.
        holds: None where it was not measured, or where the intervals leave it open.
        words: the figures and their intervals, in a sentence.
        was_measured: whether there are such figures.
    """

    plate: str
    claim: str
    holds: bool | None
    words: str
    was_measured: bool = True

    @property
    def verdict(self) -> str:
        """One of `MARKS`."""
        if self.holds is None:
            return "open" if self.was_measured else "not measured"
        return "holds" if self.holds else "fails"


def missing(plate: str, claim: str, what: str) -> Claim:
    """The verdict where there are no figures, and what it would take."""
    return Claim(plate, claim, None, f"It takes {what}.", was_measured=False)
