"""What can go wrong in the night: a loss that is no number, one that explodes, and too little memory."""

import math

import torch

from ddim.errors import UserError

MEMORY = 50  # updates that the running loss looks back over
FAR = 10.0  # times its lowest value: so high a running loss is lost, not noisy


class Breakdown(UserError):
    """A training that has lost what it had learnt.

    Attributes:
        step: the update that showed it, which was not made.
    """

    def __init__(self, step: int, cause: str, learning_rate: float) -> None:
        super().__init__(
            f"Training broke down at step {step}: {cause}; begin again with a learning rate below "
            f"{learning_rate:g}."
        )
        self.step, self.cause = step, cause


class Guard:
    """Watches the loss: its running mean, and the lowest that this has been."""

    def __init__(self) -> None:
        self.running, self.lowest, self.seen = 0.0, math.inf, 0

    def check(self, step: int, loss: float, norm: float, learning_rate: float) -> None:
        """Look at an update before it is made.

        Args:
            step: which.
            loss: mean of its batch.
            norm: of its gradient, before it is cut.
            learning_rate: of the plan, for the remedy.

        Raises:
            Breakdown: a loss or a gradient that is not a number, or a running loss far above its lowest.
        """
        if not math.isfinite(loss + norm):
            raise Breakdown(step, f"the loss is {loss:.3g}, its gradient {norm:.3g}", learning_rate)
        self.seen += 1
        self.running += (loss - self.running) / min(self.seen, MEMORY)
        if self.seen >= MEMORY:
            self.lowest = min(self.lowest, self.running)
        if self.running > FAR * self.lowest:
            raise Breakdown(step, f"the loss rose from {self.lowest:.3g} to {self.running:.3g}", learning_rate)


def is_memory(error: RuntimeError) -> bool:
    """Whether this is how PyTorch says that memory did not suffice; the CPU has no exception of its own for it."""
    said = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def no_memory(images: int, parts: int) -> UserError:
    """The sentence for a share of a batch that does not fit.

    Args:
        images: in this process's share of a batch.
        parts: in which it was worked through.
    """
    now = -(-images // parts)
    if now == 1:
        return UserError("Not even one image at a time fits into memory; choose a smaller --size or --image-size.")
    return UserError(
        f"{now} images at a time do not fit into memory, {now // 2} might; the batch stays as it is with "
        f"--accumulate {2 * parts}."
    )


def duration(seconds: float) -> str:
    """A time as people say it: "2 days 3 hours", "4 hours 10 minutes", "50 seconds"."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    words: list[str] = []
    rest = round(seconds)
    for name, length in units:
        number, rest = divmod(rest, length)
        if number or (name == "second" and not words):
            words.append(f"{number} {name}{'s' * (number != 1)}")
    return " ".join(words[:2])
