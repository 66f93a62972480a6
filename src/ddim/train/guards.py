"""What protects a run: checks of the loss and of memory, the end by a signal, and the lock of the run folder."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import torch

from ddim import files
from ddim.errors import UserError
from ddim.text import first_line

WINDOW = 50  # updates that the running loss averages over
EXPLODED = 10.0  # times its lowest value: a running loss above this is lost, not noisy
# Seconds after the first signal: torchrun forwards a Ctrl-C that its processes have already received.
PATIENCE = 3.0


class Breakdown(UserError):
    """A training that has lost what it had learned: `step` is the update that showed it, `cause` a clause.

    `precision` is that of the network's arithmetic; the message recommends fp32 in place of a lower one.
    """

    def __init__(self, step: int, cause: str, learning_rate: float, precision: str = "fp32") -> None:
        remedy = f"a learning rate below {learning_rate:g}"
        if precision != "fp32":
            remedy = f"--precision fp32 instead of {precision}, or with {remedy}"
        super().__init__(f"Training broke down at step {step}: {cause}; begin again with {remedy}.")
        self.step, self.cause = step, cause


class Guard:
    """A check of the loss of every update: its running mean, the lowest value of that, and the losses seen."""

    def __init__(self) -> None:
        self.running, self.lowest, self.seen = 0.0, math.inf, 0

    def check(self, step: int, loss: float, norm: float, learning_rate: float, precision: str = "fp32") -> None:
        """Check the loss of an update, and the norm of its gradient before clipping, before it is made.

        The learning rate and the precision are only for the message.

        Raises:
            Breakdown: the loss or the gradient is not finite, or the running loss is far above its lowest value.
        """
        if not math.isfinite(loss + norm):
            raise Breakdown(step, f"the loss is {loss:.3g}, its gradient {norm:.3g}", learning_rate, precision)
        self.seen += 1
        self.running += (loss - self.running) / min(self.seen, WINDOW)
        if self.seen >= WINDOW:
            self.lowest = min(self.lowest, self.running)
        if self.running > EXPLODED * self.lowest:
            cause = f"the loss rose from {self.lowest:.3g} to {self.running:.3g}"
            raise Breakdown(step, cause, learning_rate, precision)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; PyTorch has no exception of its own for that on the CPU."""
    phrases = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(phrase in str(error) for phrase in phrases)


def out_of_memory(images: int, parts: int) -> UserError:
    """Return the error for a process's share of a batch, `images` in `parts`, that does not fit into memory."""
    at_once = -(-images // parts)
    if at_once == 1:
        return UserError("Not even one image at a time fits into memory; choose a smaller --size or --image-size.")
    return UserError(
        f"{at_once} images at a time do not fit into memory, {at_once // 2} might; the batch stays as it is with "
        f"--accumulate {2 * parts}."
    )


@contextmanager
def report_failed_compiler() -> Iterator[None]:
    """Within this context, PyTorch may compile a network; if that fails, raise `UserError`."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):  # importing them takes seconds
            raise
        raise UserError(
            f"The network cannot be compiled: {first_line(error)}; install a C++ compiler "
            "(for CUDA, also the package triton), or leave out --compile."
        ) from error


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within this context, SIGINT and SIGTERM are remembered, for the loop to ask between two updates.

    The context yields a function that returns whether a signal has arrived. A second Ctrl-C, some seconds later,
    raises KeyboardInterrupt at once.
    """
    received: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT and time.monotonic() - received[0] > PATIENCE:
            raise KeyboardInterrupt
        received.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():  # only there does Python allow handlers
        yield lambda: False
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exclusive(folder: Path, main: bool) -> AbstractContextManager[None]:
    """Return a context that holds the lock of a run folder, if this is the main process: it alone writes.

    Raises:
        UserError: another process holds the lock, or the folder cannot be created; see `ddim.files.exclusive`.
    """
    return files.exclusive(folder, f"training in {folder}") if main else nullcontext()
