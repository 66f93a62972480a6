"""Findings on the loss by noise level: training against held-out images, and what no level need lose."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ddim.doctor.base import Diagnosis, register, signed
from ddim.run_folder import BINS, LEVELS, RunFolder
from ddim.train import checkpoints

SURE = 2.8  # standard errors: chance exceeds them in one run of forty, even if some levels are noisier than others
RISE = 1.02  # times the lowest held-out loss: a smaller rise does not count
EARLY = 0.1  # share of the training after which the gap between the sets is compared with that at its end
LARGE = 0.1  # a growth of the gap, as a share of the loss, beyond which much of it is memorised
AVOIDABLE = 0.05  # share of the loss that chance reaches: each level has other images
NO_LEVELS = "metrics.jsonl holds no losses by noise level."


class Gap(NamedTuple):
    """The difference between held-out and training images at each noise level.

    The noise is estimated from the differences of neighbouring levels: memorisation changes slowly from level to
    level, chance does not, because each level has other images.
    """

    logs: list[float]  # log(held-out loss / training loss) at each level
    noise: float  # standard deviation of one of them by chance
    mean: float  # over the levels
    chance: float  # the mean that chance reaches at most

    @classmethod
    def of(cls, logs: Sequence[float]) -> "Gap":
        """Return the gap for one logarithm at each level."""
        jumps = [(b - a) ** 2 / 2 for a, b in pairwise(logs)]
        noise = math.sqrt(sum(jumps) / len(jumps))
        return cls(list(logs), noise, sum(logs) / len(logs), SURE * noise / math.sqrt(len(logs)))

    def __str__(self) -> str:
        """Return the mean and its interval, e.g. "+2.1% (−0.3% to +4.5%)"."""
        middle, low, high = (
            signed(math.expm1(log)) for log in (self.mean, self.mean - self.chance, self.mean + self.chance)
        )
        return f"{middle} ({low} to {high})"


def gap(line: dict[str, Any]) -> Gap:
    """Return the gap in a line of metrics that holds the loss by level of both sets."""
    pairs = zip(*(line[name] for name in LEVELS), strict=True)
    return Gap.of([math.log(held_out / train) for held_out, train in pairs])


def rise(lines: Sequence[dict[str, Any]]) -> tuple[int, float] | None:
    """Return the line with the lowest held-out loss and by how much it is higher now; None if it has not risen.

    A rise counts only if the loss on training images fell meanwhile; see `RISE`.
    """
    held_out, train = ([sum(line[name]) / BINS for line in lines] for name in LEVELS)
    best = held_out.index(min(held_out))
    if held_out[-1] <= RISE * held_out[best] or train[-1] >= train[best]:
        return None
    return best, held_out[-1] / held_out[best] - 1


@register("overfitting", "Training against held-out images")
def overfitting(run: RunFolder) -> Diagnosis:
    """Say whether the held-out loss has risen, or lies above the training loss by more than it did early on.

    The images, times and noise are the same in every line of metrics. So the gap of one line is mostly a difference of
    the images, and its growth from an early line to the last is memorisation.
    """
    lines = run.levels
    if not lines:
        return Diagnosis("not measured", NO_LEVELS, "`ddim train` writes them.")
    now = gap(lines[-1])
    evidence = f"The held-out loss differs from the training loss by {now}, a mean over noise levels."
    remedy = "More images or --augment 0.12 help most; a smaller network helps too."
    if risen := rise(lines):
        best = lines[risen[0]]
        evidence += f" It was lowest at epoch {best['epoch']:.3g} and is {risen[1]:.0%} higher now: overfitting."
        return Diagnosis("act", evidence, f"{_earlier(run, best)}{remedy}")
    early = next(line for line in lines if line["epoch"] >= EARLY * lines[-1]["epoch"])
    growth = Gap.of([b - a for a, b in zip(gap(early).logs, now.logs, strict=True)])
    evidence += f" Since epoch {early['epoch']:.3g} this has changed by {growth}."
    if growth.mean <= growth.chance:
        harder = " It has not grown: rather, these held-out images are harder." if now.mean > now.chance else ""
        return Diagnosis("fine", f"{evidence}{harder or ' No overfitting is seen.'}")
    if growth.mean > LARGE:
        return Diagnosis("act", f"{evidence} The network memorises its training images.", remedy)
    evidence += " The network begins to memorise, but the held-out loss does not rise."
    return Diagnosis("unclear", evidence, f"Stop when it rises. {remedy}")


@register("levels", "The loss by noise level")
def levels(run: RunFolder) -> Diagnosis:
    """Say how much of the loss is avoidable, and where the loss still fell.

    The least possible loss is unknown, but the error of x0 at it grows with the noise: whoever sees x_t can add noise
    and predict x0 as at a noisier level. What a level loses beyond the error of a noisier one is therefore avoidable.
    """
    lines = run.levels
    if not lines:
        return Diagnosis("not measured", NO_LEVELS, "`ddim train` writes them.")
    loss, schedule = lines[-1][LEVELS[0]], run.model.schedule
    ends = [float(schedule.time_at(schedule.N * i / BINS)) for i in range(BINS + 1)]
    avoidable = _avoidable(run, loss)
    share = sum(avoidable) / sum(loss)
    earlier = next(line for line in lines if line["epoch"] >= 2 / 3 * lines[-1]["epoch"])[LEVELS[0]]
    falls = [1 - now / before for now, before in zip(loss, earlier, strict=True)]
    most = falls.index(max(falls))
    evidence = "The least possible loss is unknown."
    if falls[most] > 0:
        evidence += f" In the last third of the training it fell most {_between(most, ends)}, by {falls[most]:.1%}."
    if share <= AVOIDABLE:
        evidence += " At no level is the error of x0 larger than at a noisier one, beyond chance."
        return Diagnosis("fine", evidence)
    worst = avoidable.index(max(avoidable))
    evidence += (
        f" {share:.0%} of the held-out loss is avoidable, most of it {_between(worst, ends)}: there the error of x0 "
        f"exceeds that at a noisier level. Up to {AVOIDABLE:.0%} may be chance, as each level has at most 32 images."
    )
    return Diagnosis("act", evidence, "Train longer, or with a --weighting that counts these levels more.")


def _avoidable(run: RunFolder, loss: Sequence[float]) -> list[float]:
    """Return how much of the loss of each level lies above what the least error of x0 at a noisier level allows."""
    schedule = run.model.schedule
    factors = [_per_error(run, float(schedule.time_at(schedule.N * (i + 0.5) / BINS))) for i in range(BINS)]
    errors = [one / factor for one, factor in zip(loss, factors, strict=True)]
    allowed = [min(errors[i:]) * factors[i] for i in range(BINS)]
    return [max(one - other, 0.0) for one, other in zip(loss, allowed, strict=True)]


def _per_error(run: RunFolder, t: float) -> float:
    """Return the loss over the squared error of x0 at a time, see `Denoiser.loss`."""
    alpha, sigma = (float(rate) for rate in run.model.schedule(t)[1:])
    own = {"eps": alpha / sigma, "x0": 1.0, "v": (alpha**2 + sigma**2) / sigma, "flow": 1 + alpha / sigma}
    return own[run.model.predicts] ** 2


def _between(part: int, ends: Sequence[float]) -> str:
    return f"between t = {ends[part]:g} and {ends[part + 1]:g}"


def _earlier(run: RunFolder, best: dict[str, Any]) -> str:
    """Name the checkpoint that is nearest to a line of metrics, if there are any."""
    steps = checkpoints.steps(run.folder)
    if not steps or "step" not in best:
        return ""
    nearest = min(steps, key=lambda step: abs(step - best["step"]))
    return f"Use an earlier checkpoint: `ddim sample RUN --checkpoint {nearest}`. "
