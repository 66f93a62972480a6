"""The errors and warnings that a caller can cause, and what their sentences have in common."""

from collections.abc import Iterable, Sequence


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
