"""What can end a training early: a loss that is NaN or explodes, too little memory, and a signal to stop."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from ddim.errors import UserError

WINDOW = 50  # updates that the running loss averages over
EXPLODED = 10.0  # times its lowest value: a running loss above this is lost, not noisy
PATIENCE = (
    3.0  # seconds after the first signal: torchrun forwards a Ctrl-C that its processes have already received
)


class Breakdown(UserError):
    """A training that has lost what it had learned.

    Attributes:
        step: the update that showed it, which was not made.
        cause: what was seen, as a clause: "the loss is nan, ...".
    """

    def __init__(self, step: int, cause: str, learning_rate: float) -> None:
        super().__init__(
            f"Training broke down at step {step}: {cause}; begin again with a learning rate below "
            f"{learning_rate:g}."
        )
        self.step, self.cause = step, cause


class Guard:
    """A check of the loss of every update.

    Attributes:
        running: the running mean of the loss.
        lowest: the lowest value of that mean so far.
        seen: the number of losses checked.
    """

    def __init__(self) -> None:
        self.running, self.lowest, self.seen = 0.0, math.inf, 0

    def check(self, step: int, loss: float, norm: float, learning_rate: float) -> None:
        """Check an update before it is made.

        Args:
            step: the number of the update.
            loss: the mean loss of its batch.
            norm: the norm of its gradient, before clipping.
            learning_rate: the current one, for the error message.

        Raises:
            Breakdown: the loss or the gradient is not finite, or the running loss is far above its lowest value.
        """
        if not math.isfinite(loss + norm):
            raise Breakdown(step, f"the loss is {loss:.3g}, its gradient {norm:.3g}", learning_rate)
        self.seen += 1
        self.running += (loss - self.running) / min(self.seen, WINDOW)
        if self.seen >= WINDOW:
            self.lowest = min(self.lowest, self.running)
        if self.running > EXPLODED * self.lowest:
            raise Breakdown(step, f"the loss rose from {self.lowest:.3g} to {self.running:.3g}", learning_rate)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether PyTorch ran out of memory; on the CPU it has no exception of its own for that."""
    phrases = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(phrase in str(error) for phrase in phrases)


def out_of_memory(images: int, parts: int) -> UserError:
    """Return the error for a share of a batch that does not fit into memory.

    Args:
        images: the number of images in this process's share of a batch.
        parts: the number of parts in which they were processed.
    """
    at_once = -(-images // parts)
    if at_once == 1:
        return UserError("Not even one image at a time fits into memory; choose a smaller --size or --image-size.")
    return UserError(
        f"{at_once} images at a time do not fit into memory, {at_once // 2} might; the batch stays as it is with "
        f"--accumulate {2 * parts}."
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within this context, SIGINT and SIGTERM are remembered, for the loop to ask between two updates.

    A second Ctrl-C, some seconds later, raises KeyboardInterrupt at once.

    Yields:
        A function that returns whether a signal has arrived.
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
