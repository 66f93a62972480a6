"""The command `ddim`: a file for each of its commands, and here what they share, the way out."""

import signal
import sys
from collections.abc import Sequence

from ddim.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exits with 2 and one sentence where the user asked for what cannot be, 130 on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to stop is to be interrupted
    try:
        from ddim.cli.parse import parse  # here, so that Ctrl-C while it loads is no traceback either

        parse(list(sys.argv[1:] if arguments is None else arguments)).run()
    except UserError as error:
        _leave(2, str(error))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _leave(1)
    except OSError as error:
        _leave(2, f"Could not use {error.filename or 'a file'}: {error.strerror}; check its name and permissions.")
    except KeyboardInterrupt:
        _leave(130, "Interrupted; no file is left half-written, and a training keeps what it has learnt.")


def _leave(code: int, sentence: str | None = None) -> None:
    if sentence:
        print(f"ddim: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None
