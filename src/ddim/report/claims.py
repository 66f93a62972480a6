"""The verdict: which of the claims about DDIM hold on this model, from the numbers of its record alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from ddim.report.measured import Measured, measured
from ddim.report.quality import Quality, quality
from ddim.report.record import Record

FEWER = 10  # times fewer steps than T: "10x to 50x faster", as DDIM's abstract puts it
SMALL = (10, 20)  # steps that are few
FAR_BELOW = 0.5  # of the rms between images of different noise: (1/2)^2 = 1 - a correlation of 0.75
CHANCE = 0.05  # a p-value below it is no chance
MARKS = {"holds": "✓", "fails": "✗", "open": "?", "not measured": "–"}


@dataclass(frozen=True)
class Claim:
    """A claim, and what the numbers say of it.

    Attributes:
        plate: the figure that shows it.
        claim: a sentence.
        holds: None where it was not measured, or where the intervals leave it open.
        words: the figures and their intervals, in a sentence.
        was_measured: whether there are such figures.
    """

    plate: str
    claim: str
    holds: bool | None
    words: str
    was_measured: bool = True

    @property
    def verdict(self) -> str:
        """One of `MARKS`."""
        if self.holds is None:
            return "open" if self.was_measured else "not measured"
        return "holds" if self.holds else "fails"


def claims(record: Record) -> list[Claim]:
    """All of them, in the order of the paper."""
    return [
        fewer_steps(record),
        eta_zero(record),
        sigma_hat(record),
        same_image(record),
        reconstruction(record),
        no_copies(record),
    ]


def lines(record: Record) -> list[str]:
    """The verdict for the terminal."""
    return [f"{MARKS[one.verdict]} {one.verdict}: {one.claim} {one.words}" for one in claims(record)]


def left_out(record: Record) -> list[str]:
    """What a limit of time took away of each result, in words."""
    cuts = {name: facts.get("cut") for name, facts in record.results.items()}
    return [f"{name}: {cut}" for name, cut in cuts.items() if cut and isinstance(cut, str)]


def fewer_steps(record: Record) -> Claim:
    """DDIM, abstract and Table 1: at eta = 0 a tenth of the steps, or fewer, are as good as all T.

    An S is as good if its distance is no higher than the interval around that of S = T, at as many images; the
    smallest that counts is the one from which on every measured S of its ladder is. An S is worse for sure if the
    two intervals do not meet; the claim fails only if every S up to T / 10 is.
    """
    claim = f"With at least {FEWER} times fewer steps than T, DDIM (η = 0) samples as well as with all T."
    found, T = quality(record), record.model.schedule.T
    ladders = _ladders(found, T) if found else []
    short = [trial for ladder in ladders for trial in ladder if FEWER * trial.steps <= T]
    if found is None or not short:
        return _missing("table1", claim, f"η = 0 at S = T = {T:,} and at S of at most T / {FEWER}")
    good = [list(takewhile(lambda one: one.mine.no_worse(one.whole), ladder)) for ladder in ladders]
    best = min((ladder[-1] for ladder in good if ladder), key=lambda one: one.steps, default=None)
    holds = True if best in short else False if all(one.whole.below(one.mine) for one in short) else None
    shown = best if best in short else min(short, key=lambda one: one.mine.value / one.whole.value)
    said = f"{'' if holds else 'The nearest of them is '}{_against(shown, T, found)}"
    if best is not None and not holds:
        said += f" The smallest S that is as good is {best.steps}."
    return Claim("table1", claim, holds, said)


def eta_zero(record: Record) -> Claim:
    """DDIM, Table 1: in few steps eta = 0 beats eta = 1."""
    claim = f"In few steps (S = {_and(SMALL)}) DDIM (η = 0) beats DDPM (η = 1)."
    return _contest(record, claim, "0", "1", SMALL)


def sigma_hat(record: Record) -> Claim:
    """DDIM, Table 1: in few steps sigma-hat, DDPM's larger variance, is far worse than eta = 1."""
    claim = f"In few steps (S = {SMALL[0]}) the larger variance of DDPM, σ̂, fails: it is worse than η = 1."
    return _contest(record, claim, "1", "hat", SMALL[:1])


def same_image(record: Record) -> Claim:
    """DDIM, Figure 5: from the same x_T, any S leads to about the same image."""
    claim = "From the same noise, DDIM reaches the same image with any number of steps."
    facts = record.results.get("consistency", {"rows": []})
    *rows, longest = sorted(facts["rows"], key=lambda row: row["steps"]) or [{}]
    if not rows or not facts["between"]:
        return _missing("consistency", claim, "images of the same noise at several S")
    each = ", ".join(f"{row['rms']:.3f} at S = {row['steps']:,}" for row in rows)
    said = (
        f"The rms to the images of S = {longest['steps']:,} is {each}; images of different noise are "
        f"{facts['between']:.3f} apart. Far below is less than half of that."
    )
    return Claim("consistency", claim, all(row["rms"] < FAR_BELOW * facts["between"] for row in rows), said)


def reconstruction(record: Record) -> Claim:
    """DDIM, Table 2: encoding an image and decoding it again errs less, the more steps both take.

    It falls for sure if the intervals of the first and the last S do not meet, and no error lies above the interval
    of the one before; it does not if one lies above that of the one before for sure.
    """
    claim = "The error of encoding an image and decoding it again falls with the number of steps."
    rows = sorted(record.results.get("reconstruction", {"rows": []})["rows"], key=lambda row: row["steps"])
    errors = [measured(row, "error") for row in rows]
    if len(errors) < 2:
        return _missing("reconstruction", claim, "the error at several S")
    falls = errors[-1].below(errors[0]) and all(b.no_worse(a) for a, b in pairwise(errors))
    rises = any(a.below(b) for a, b in pairwise(errors))
    each = [f"{error} at S = {row['steps']:,}" for row, error in zip(rows, errors, strict=True)]
    worse = [
        f"it rises from {each[i]} to {each[i + 1]}"
        for i, (a, b) in enumerate(pairwise(errors))
        if not b.no_worse(a)
    ]
    said = f"Mean squared error of pixels from 0 to 1: {'; '.join([f'{each[0]}, {each[-1]}', *worse])}."
    return Claim("reconstruction", claim, True if falls else False if rises else None, said)


def no_copies(record: Record) -> Claim:
    """Meehan et al., arXiv 2004.05675: samples lie no nearer to the training set than held-out images do.

    They are copies if more samples are suspicious than chance explains; that they lie nearer on the whole is a sign
    of it, but blurred samples do so too, and leaves it open.
    """
    claim = "The samples are no copies of training images."
    facts = record.results.get("memorisation")
    if facts is None:
        return _missing("memorisation", claim, "how near the samples lie to the training images")
    nearer = measured(facts, "nearer", "nearer_")
    copies, fair = facts["p_value"] < CHANCE, nearer.low <= 0.5
    chance = "p < 0.001" if facts["p_value"] < 0.001 else f"p = {facts['p_value']:.2g}"
    said = (
        f"{facts['flagged']:g} of {facts['count']:,} samples {'is' if facts['flagged'] == 1 else 'are'} "
        f"suspiciously near to one of {facts['train_count']:,} training images, where {facts['expected']:.3g} are "
        f"expected of new images ({chance}). A sample lies nearer to the training set than a held-out image in a "
        f"share of {nearer} of their pairs; 0.5 is fair."
    )
    return Claim("memorisation", claim, False if copies else True if fair else None, said)


@dataclass(frozen=True)
class Trial:
    """A short walk beside the whole one: their distances, of as many images each."""

    spacing: str
    steps: int
    mine: Measured
    whole: Measured
    count: int


def _ladders(found: Quality, T: int) -> list[list[Trial]]:
    """Of each ladder what compares with S = T, where all ladders are the same, the longest first."""
    whole = next(((spacing, T, "0") for spacing in found.spacings if (spacing, T, "0") in found.rows), None)
    if whole is None:
        return []
    ladders = []
    for spacing in found.spacings:
        pairs = {S: found.pair((spacing, S, "0"), whole) for S in reversed(found.steps) if S < T}
        ladders.append([Trial(spacing, S, *pair) for S, pair in pairs.items() if pair])
    return ladders


def _against(one: Trial, T: int, found: Quality) -> str:
    return (
        f"S = {one.steps} on the {one.spacing} ladder, {T / one.steps:.3g} times fewer than T = {T:,}: a Fréchet "
        f"distance of {one.mine}, against {one.whole} with all steps, of {one.count:,} images each; as many real "
        f"images come to {found.floors[one.count]}. A difference within the intervals would not show."
    )


def _contest(record: Record, claim: str, better: str, worse: str, steps: Sequence[int]) -> Claim:
    """Whether one eta is better than another at each of some S, on every ladder that was measured: for sure."""
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
        return _missing("table1", claim, f"{names[better]} and {names[worse]} at S = {_and(steps)}")
    counts = sorted({count for _, _, count in met.values()})
    each = [
        f"{one} against {other} at S = {S} ({spacing}{f', {count:,} images each' if len(counts) > 1 else ''})"
        for (spacing, S), (one, other, count) in met.items()
    ]
    sure = all(one.below(other) for one, other, _ in met.values())
    turned = any(other.below(one) for one, other, _ in met.values())
    images = f", of {counts[0]:,} images each" if len(counts) == 1 else ""
    words = f"Fréchet distance of {names[better]} against {names[worse]}{images}: {'; '.join(each)}."
    return Claim("table1", claim, True if sure else False if turned else None, words)


def _missing(plate: str, claim: str, what: str) -> Claim:
    return Claim(plate, claim, None, f"It takes {what}.", was_measured=False)


def _and(steps: Sequence[int]) -> str:
    return " and ".join(map(str, steps))
