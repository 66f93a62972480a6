"""The errors and warnings that a caller can cause."""

from collections.abc import Iterable


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
