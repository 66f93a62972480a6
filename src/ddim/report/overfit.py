"""Whether a network does better on the images it was trained on than on others, or whether that is chance."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from ddim.report.numbers import epochs, percent
from ddim.report.reading import BINS, LEVELS
from ddim.report.record import Record

SURE = 2.8  # standard errors: chance goes beyond in one run of forty, even if some levels are noisier than others
RISE = 1.02  # times the lowest held-out loss: less is no rise to speak of


class Gap(NamedTuple):
    """How held-out and trained images differ, at each noise level.

    Attributes:
        logs: log(held-out loss / training loss) at each level.
        noise: standard deviation of one of them by chance, read off how neighbouring levels differ: what is
            learnt by heart changes slowly from level to level, while chance, other images at each, does not.
    """

    logs: list[float]
    noise: float

    @property
    def mean(self) -> float:
        """Over the levels."""
        return sum(self.logs) / len(self.logs)

    @property
    def chance(self) -> float:
        """What chance makes of the mean at most."""
        return SURE * self.noise / math.sqrt(len(self.logs))


def gap(line: dict[str, Any]) -> Gap:
    """The gap that a line of metrics tells, one that holds the loss by level of both sets."""
    pairs = zip(*(line[name] for name in LEVELS), strict=True)
    logs = [math.log(held_out / train) for held_out, train in pairs]
    jumps = [(b - a) ** 2 / 2 for a, b in pairwise(logs)]
    return Gap(logs, math.sqrt(sum(jumps) / len(jumps)))


def verdict(record: Record) -> str:
    """What the last line says of overfitting, in words; nothing if it does not tell the loss by level."""
    if not record.levels:
        return ""
    found, T = gap(record.levels[-1]), record.model.schedule.T
    logs = found.logs
    worst = logs.index(max(logs))
    where = f"between t = {worst * T / BINS:g} and {(worst + 1) * T / BINS:g}"
    largest = (
        f"The loss on held-out images exceeds that on training images most {where}, by {percent(logs[worst])}."
        if logs[worst] > 0
        else "At no level does the loss on held-out images exceed that on training images."
    )
    mean = (
        f"Over all levels it is {percent(found.mean)} {'higher' if found.mean > 0 else 'lower'}, where up to "
        f"{percent(found.chance)} may be chance, as each level has at most 32 images of each set"
    )
    if found.mean <= found.chance:
        return f"{largest} {mean}: no sign of overfitting."
    return f"{largest} {mean}: a sign of overfitting, or of held-out images that are harder. {_rise(record)}"


def _rise(record: Record) -> str:
    """Whether held-out images got worse again while the trained ones got better."""
    held_out, train = ([sum(line[name]) / BINS for line in record.levels] for name in LEVELS)
    best = held_out.index(min(held_out))
    if held_out[-1] <= RISE * held_out[best]:
        return "The held-out loss itself has not risen."
    if train[-1] >= train[best]:
        return "Both losses have risen."
    when, rise = epochs(record.levels[best]["epoch"]), percent(math.log(held_out[-1] / held_out[best]))
    return f"The held-out loss was lowest after {when} epochs and is {rise} higher now."
