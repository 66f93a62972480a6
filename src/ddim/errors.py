"""The errors and warnings that a caller can cause."""


class UserError(Exception):
    """A request that cannot be met.

    The message is one sentence that says what was given, what is allowed and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class Notice(UserWarning):
    """A request that was met only in part. The command line prints the message as one line."""
