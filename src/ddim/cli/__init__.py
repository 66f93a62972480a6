"""The command `ddim`: a file for each of its commands, and here what they share, the way out."""

import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from ddim.errors import Notice, UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exits with 2 and one sentence where the user asked for what cannot be, 130 on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to stop is to be interrupted
    warnings.formatwarning = _remark
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


_python_s_own = warnings.formatwarning


def _remark(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """A warning as text: one of ours is a sentence, and where in the code it was said does not matter."""
    if issubclass(category, Notice):
        return f"ddim: {message}\n"
    return _python_s_own(message, category, *where, **line)


def _leave(code: int, sentence: str | None = None) -> None:
    if sentence:
        print(f"ddim: {sentence}", file=sys.stderr)
    raise SystemExit(code) from None
