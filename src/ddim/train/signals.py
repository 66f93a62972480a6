"""To be asked to stop: SIGINT and SIGTERM become a question that the loop answers between two updates."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 3.0  # seconds after the first signal: torchrun passes on a Ctrl-C that its processes saw already


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, a signal is remembered. A second Ctrl-C, some seconds later, is a KeyboardInterrupt at once.

    Yields:
        A function that says whether there was a signal.
    """
    asked: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT and time.monotonic() - asked[0] > PATIENCE:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():  # only there does Python allow handlers
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
