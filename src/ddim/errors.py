"""The one kind of error that a user can cause."""


class UserError(Exception):
    """Something the caller asked for cannot be done.

    The message is one sentence that names the thing, the reason and the remedy. The command line
    prints it alone, without a traceback, and exits with code 2.
    """


class Notice(UserWarning):
    """Something was done, but not all that a caller may expect. The command line prints it as one line."""
