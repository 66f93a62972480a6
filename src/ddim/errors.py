"""The errors and warnings that a caller can cause, what their sentences have in common, and the check of a number."""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


class UserError(Exception):
    """A request that cannot be met.

    The message is one sentence that says what was given, what is allowed and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class Notice(UserWarning):
    """A request that was met only in part. The command line prints the message as one line."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the other one of `names` that is spelled most like `name`; "" if none is."""
    from difflib import get_close_matches  # here, because only an error needs it

    closest = get_close_matches(name.lower(), [other for other in names if other != name], n=1)
    return f" (did you mean {closest[0]!r}?)" if closest else ""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: "1 image", "2,000 images"; `plural` is the noun with an s if not given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names with commas between them, and the number of the others: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def printable(text: str) -> str:
    """Return a line for a terminal: control characters and broken bytes, as names of files may hold, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number(
    what: str, value: Any, kind: type[Number], low: float = -math.inf, high: float = math.inf, allowed: str = ""
) -> Number:
    """Return a number of any numeric type (Python's, NumPy's, a 0-d tensor) as an `int` or a finite `float`.

    Args:
        what, value: the name of the number, for the error message, and the number.
        kind: int also takes a float without a fraction; True, False and text are never numbers.
        low, high: the range, both ends included.
        allowed: the range in words; by default made of `kind`, `low` and `high`.

    Raises:
        UserError: anything else, NaN included.
    """
    try:
        whole = kind is int and hasattr(value, "__index__")
        given = operator.index(value) if whole else float(value)
        fits = not isinstance(value, bool | str | bytes) and low <= given <= high and kind(given) == given
        if fits and math.isfinite(given):
            return kind(given)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # what the conversion raises depends on the type
        pass
    least = f" of at least {low}" if low > -math.inf else ""
    most = f" and at most {high}" if high < math.inf else ""
    allowed = allowed or f"a {'whole' if kind is int else 'finite'} number{least}{most}"
    raise UserError(f"{what} must be {allowed}; got {value!r}.")
