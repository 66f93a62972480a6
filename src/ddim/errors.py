"""The one kind of error that a user can cause."""


class UserError(Exception):
    """Something the caller asked for cannot be done.

    The message is one sentence that names the thing, the reason and the remedy. The command line
    prints it alone, without a traceback, and exits with code 2.
    """
