"""The claims of DDIM's Table 1, about few steps: distances of as many images, compared by their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ddim.report.claim import Claim, missing
from ddim.report.measured import Measured
from ddim.report.quality import Quality, quality
from ddim.report.record import Record

FEWER = 10  # times fewer steps than T: "10x to 50x faster", as DDIM's abstract puts it
SMALL = (10, 20)  # steps that are few
TENTH = 0.1  # of the distance of S = T: what may be added to it


def fewer_steps(record: Record) -> Claim:
    """DDIM, abstract and Table 1: at eta = 0 a tenth of the steps, or fewer, are as good as all T.

    As good is a distance at most a tenth larger than that of S = T; in DDIM's Table 1, on CIFAR-10, that of S = 100
    is. What counts is the interval of the difference, of images from the same noise: wholly within the tenth, the S
    is as good; wholly beyond, it is worse; else it is open. The smallest S that counts is the one from which on all
    measured S of its ladder are as good; the claim fails only if every S is worse, T / 10 among them.
    """
    claim = f"With at least {FEWER} times fewer steps than T, DDIM (η = 0) samples as well as with all T."
    found, T = quality(record), record.model.schedule.T
    ladders = _ladders(found, T) if found else []
    short = [trial for ladder in ladders for trial in ladder if FEWER * trial.steps <= T]
    if found is None or not short:
        return missing("table1", claim, f"η = 0 at S = T = {T:,} and at S of at most T / {FEWER}")
    good = [list(takewhile(lambda one: one.as_good, ladder)) for ladder in ladders]
    best = min((ladder[-1] for ladder in good if ladder), key=lambda one: one.steps, default=None)
    tried = any(FEWER * one.steps == T for one in short)
    holds = True if best in short else False if tried and all(one.worse for one in short) else None
    shown = best if best in short else min(short, key=lambda one: one.excess.value)
    said = f"{'' if holds else 'The nearest of them is '}{_against(shown, T, found)}"
    if best is not None and not holds:
        said += f" The smallest S that is as good is {best.steps}."
    if not tried and not holds:
        said += f" S = {T // FEWER} was not measured."
    return Claim("table1", claim, holds, said)


def eta_zero(record: Record) -> Claim:
    """DDIM, Table 1: in few steps eta = 0 beats eta = 1."""
    return _contest(record, "In few steps ({}) DDIM (η = 0) beats DDPM (η = 1).", "0", "1", SMALL)


def sigma_hat(record: Record) -> Claim:
    """DDIM, Table 1: in few steps sigma-hat, DDPM's larger variance, is far worse than eta = 1."""
    claim = "In few steps ({}) the larger variance of DDPM, σ̂, fails: it is worse than η = 1."
    return _contest(record, claim, "1", "hat", SMALL[:1])


@dataclass(frozen=True)
class Trial:
    """A short walk beside the whole one, S = T, from the same noise.

    Attributes:
        spacing, steps: of the short one.
        excess: by how much its distance is the larger.
        whole: the distance of S = T.
    """

    spacing: str
    steps: int
    excess: Measured
    whole: Measured

    @property
    def as_good(self) -> bool:
        """For sure at most a tenth larger."""
        return self.excess.high <= TENTH * self.whole.value

    @property
    def worse(self) -> bool:
        """For sure more than that."""
        return self.excess.low > TENTH * self.whole.value


def _ladders(found: Quality, T: int) -> list[list[Trial]]:
    """Of each ladder what compares with S = T, where all ladders are the same, the longest first."""
    places = ((spacing, T, "0") for spacing in found.spacings)
    whole = next((one for place in places if (one := found.at(place, found.few)) is not None), None)
    if whole is None:
        return []
    ladders = []
    for spacing in found.spacings:
        excess = {S: found.excess((spacing, S, "0")) for S in reversed(found.steps) if S < T}
        ladders.append([Trial(spacing, S, one, whole) for S, one in excess.items() if one is not None])
    return ladders


def _against(one: Trial, T: int, found: Quality) -> str:
    return (
        f"S = {one.steps} on the {one.spacing} ladder, {T / one.steps:.3g} times fewer than T = {T:,}: its Fréchet "
        f"distance exceeds that of all steps, {one.whole}, by {one.excess}, of {found.few:,} images each from the "
        f"same noise; up to a tenth of it counts as good. As many real images come to {found.floors[found.few]}."
    )


def _contest(record: Record, claim: str, better: str, worse: str, steps: Sequence[int]) -> Claim:
    """Whether one eta is better than another at each S and on every ladder that were measured: for sure.

    Args:
        record: of the run.
        claim: the sentence, with a place for the S.
        better, worse: the two etas.
        steps: the S to look at.
    """
    found = quality(record)
    pairs = {
        (spacing, S): found.pair((spacing, S, better), (spacing, S, worse))
        for S in steps
        if found and S < record.model.schedule.T
        for spacing in found.spacings
    }
    met = {place: pair for place, pair in pairs.items() if pair}
    names = {"0": "η = 0", "1": "η = 1", "hat": "σ̂"}
    if not met:
        return missing("table1", claim.format(_and(steps)), f"{names[better]} and {names[worse]} at {_and(steps)}")
    counts = sorted({count for _, _, count in met.values()})
    each = [
        f"{one} against {other} at S = {S} ({spacing}{f', {count:,} images each' if len(counts) > 1 else ''})"
        for (spacing, S), (one, other, count) in met.items()
    ]
    sure = all(one.below(other) for one, other, _ in met.values())
    turned = any(other.below(one) for one, other, _ in met.values())
    images = f", of {counts[0]:,} images each" if len(counts) == 1 else ""
    words = f"Fréchet distance of {names[better]} against {names[worse]}{images}: {'; '.join(each)}."
    there = claim.format(_and([S for S in steps if any(place[1] == S for place in met)]))
    return Claim("table1", there, True if sure else False if turned else None, words)


def _and(steps: Sequence[int]) -> str:
    return f"S = {' and '.join(map(str, steps))}"
