"""The errors and warnings that a caller can cause, and the check of a number."""

import math
import operator
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)
LONGEST = 100  # characters of a value in a message: a tensor takes thousands


class UserError(Exception):
    """A request that cannot be met.

    The message is one sentence that says what was given, what is allowed and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class Notice(UserWarning):
    """A request that was met only in part. The command line prints the message as one line."""


def shown(value: Any) -> str:
    """Return a value as it stands in a message: its `repr` on one line, cut to `LONGEST` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


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
    raise UserError(f"{what} must be {allowed}; got {shown(value)}.")
