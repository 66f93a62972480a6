"""The command `ddim`: one file for each of its commands, and here their list, the parser and the exit codes.

A new command is a file `name.py` with a dataclass `Name`, whose fields are the flags and whose method `run` does
the work and returns its results, plain data by name, for --json; and a line in `COMMANDS`. Nothing here imports torch,
so that `--help` is fast.
"""

import atexit
import errno
import gc
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from inspect import cleandoc
from io import TextIOWrapper
from operator import or_
from types import FrameType
from typing import Annotated, Any

from ddim.cli import output
from ddim.errors import Notice, UserError
from ddim.processors import OtherPrograms, keep_freed_memory, set_thread_defaults
from ddim.text import did_you_mean, printable

COMMANDS = {
    "train": "Train",
    "inspect": "Inspect",
    "sample": "Sample",
    "studio": "Studio",
    "restore": "Restore",
    "encode": "Encode",
    "decode": "Decode",
    "interpolate": "Interpolate",
    "vary": "Vary",
    "blend": "Blend",
    "replay": "Replay",
    "reproduce": "Reproduce",
    "report": "Report",
    "doctor": "Doctor",
    "evaluate": "Evaluate",
    "compare": "Compare",
    "verify": "Verify",
    "tune": "Tune",
    "distill": "Distill",
    "average": "Average",
    "export": "Export",
    "push": "Push",
    "list": "Names",
}
"""command -> its class, in the order of `ddim --help`."""

NARROWEST = 20  # columns of a terminal: in fewer, tyro breaks lines without end
LONGEST_IMPORT = 10.0  # seconds for which a signal waits for an import

DESCRIPTION = """Train diffusion models on small images, sample them in few steps, and measure the results.

Sample and edit:
  ddim sample mnist                    draw new images with a model that comes with ddim
  ddim sample runs/mnist --steps 20    draw new images with 20 network calls each
  ddim studio                          open a page in the browser to do all this by hand
  ddim restore mnist torn.png ...      fill in, enlarge, sharpen or colour a damaged image
  ddim encode mnist three.png          find the noise of an image; decode, interpolate, vary and blend images
  ddim replay samples/mnist-seed0.png  make a picture again from what its file says

Train:
  ddim inspect photos/                 show what a folder of images contains
  ddim train mnist --minutes 30        train a model and write it to runs/mnist
  ddim doctor runs/mnist               say what the numbers of a run show, and what to do
  ddim average runs/mnist              choose the width of the averaged weights after training
  ddim tune runs/mnist --calls 5,8     find the best way to sample in so few network calls
  ddim distill runs/mnist --calls 1,4  train a student that needs so few network calls

Measure:
  ddim reproduce digits --quick        train, sample and report on 8 x 8 digits, in minutes
  ddim evaluate runs/mnist             compare samples with real images
  ddim compare runs/a runs/b           rank several models
  ddim verify                          test every sampler against closed-form solutions
  ddim report runs/mnist               write a page with figures about a run

Share:
  ddim export runs/mnist --to onnx     write a model for another library or program
  ddim push runs/mnist user/mnist      upload a model to the Hugging Face hub, with a card

Help:
  ddim COMMAND --help                  show the flags of a command, with examples
  ddim list samplers                   list the registered names that a flag accepts
  ddim --version                       show the versions of ddim and its dependencies

Every command takes:
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and flags that `arguments` lists; None takes those of the process.

    The exit code is 2, with one sentence, for a request that cannot be met, and 130 for Ctrl-C.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as `2>&-` does
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):  # a letter that the output's encoding lacks becomes "?"
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _interrupt)  # SIGTERM interrupts as Ctrl-C does
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, _interrupt)
    warnings.formatwarning = _format_warning
    atexit.register(gc.freeze)  # Python's exit then searches no objects for cycles; torch has 170,000
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        _exit(2, str(error))
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _exit(1)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _exit(2, f"Could not write {error.filename or 'the output'}: the disk is full; free some space.")
        name, reason = error.filename or "a file", error.strerror or error
        _exit(2, f"Could not use {name}: {reason}; check its name and permissions.")
    except (RuntimeError, MemoryError) as error:
        from ddim.train.guards import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        _exit(2, f"Memory is full ({reason}); ask for smaller batches, smaller images or a smaller network.")
    except KeyboardInterrupt:
        _exit(130, "Interrupted. No file is left incomplete; a training run continues with --resume.")


def _run(arguments: list[str]) -> None:
    from ddim import plugins

    others = OtherPrograms()  # measured while the parser is imported
    import tyro  # noqa: F401

    set_thread_defaults(others)
    arguments, named = plugins.split(arguments)
    arguments, shown = output.split(arguments)
    if arguments == ["--version"]:
        from ddim.environment import versions

        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        return
    if not {"-h", "--help"} & set(arguments):  # no help text depends on a plugin
        plugins.load(named)
    command = parse(arguments)
    keep_freed_memory()
    shown.run(arguments[0], command)


def parse(arguments: list[str]) -> Any:
    """Return the command that the arguments describe, e.g. a `ddim.cli.sample.Sample`.

    Raises:
        UserError: an unknown command, or a recipe or a run that cannot be read.
        SystemExit: an unknown flag (code 2), or a request for help (code 0).
    """
    import tyro  # here, so that Ctrl-C during this import shows no traceback

    def read(command: Any, words: list[str], **options: Any) -> Any:
        return tyro.cli(command, args=words, config=(tyro.conf.OmitArgPrefixes,), **options)

    if os.environ.get("NO_COLOR"):  # https://no-color.org; tyro itself asks TERM only
        os.environ["TERM"] = "dumb"
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        guess = did_you_mean(arguments[0], COMMANDS)
        raise UserError(f"There is no command {arguments[0]!r}{guess}; choose one of {', '.join(COMMANDS)}.")
    if not arguments or arguments[0] not in COMMANDS:
        subcommands: list[Any] = []
        for name in COMMANDS:
            command = command_class(name)
            summary = (command.__doc__ or "").split("\n\n")[0]
            subcommands.append(Annotated[command, tyro.conf.subcommand(name, description=summary)])
        return read(reduce(or_, subcommands), arguments, prog="ddim", description=DESCRIPTION + output.HELP)
    name, *flags = arguments
    cls = command_class(name)
    about = {"prog": f"ddim {name}", "description": f"{cleandoc(cls.__doc__)}\n\nEvery command takes:\n{output.HELP}"}
    command = read(cls, flags, **about)
    if name == "train":  # its recipe sets the defaults of all other flags: parse those again
        command = read(cls, flags, **about, default=command.with_recipe(flags))
    return command


def command_class(name: str) -> Any:
    """Import the class of a command, and not the others."""
    cls = COMMANDS[name]
    return getattr(import_module(f"ddim.cli.{cls.lower()}"), cls)


_signals: list[float] = []  # when each one arrived


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; while a module is imported, wait: C extensions turn it into other errors."""
    _signals.append(time.monotonic())
    if _importing(frame) and _signals[-1] - _signals[0] < LONGEST_IMPORT:
        again = threading.Timer(0.1, signal.raise_signal, [number])
        again.daemon = True
        again.start()
    else:
        raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


_default_format = warnings.formatwarning


def _format_warning(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """Format a `Notice` as one sentence, without the line of code that caused it."""
    if issubclass(category, Notice):
        return f"ddim: {printable(str(message))}\n"
    return _default_format(message, category, *where, **line)


def _exit(code: int, sentence: str | None = None) -> None:
    if sentence:
        print(f"ddim: {printable(sentence)}", file=sys.stderr)
    raise SystemExit(code) from None
