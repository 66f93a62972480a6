"""The verdict: which of the claims about DDIM hold on this model, from the numbers of its record alone."""

from itertools import pairwise

from ddim.report.claim import MARKS, Claim, missing
from ddim.report.few_steps import eta_zero, fewer_steps, sigma_hat
from ddim.report.measured import measured
from ddim.report.record import Record

FAR_BELOW = 0.5  # of the rms between images of different noise: (1/2)^2 = 1 - a correlation of 0.75
CHANCE = 0.05  # a p-value below it is no chance


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


def same_image(record: Record) -> Claim:
    """DDIM, Figure 5: from the same x_T, any S leads to about the same image."""
    claim = "From the same noise, DDIM reaches the same image with any number of steps."
    facts = record.results.get("consistency", {"rows": []})
    *rows, longest = sorted(facts["rows"], key=lambda row: row["steps"]) or [{}]
    if not rows or not facts["between"]:
        return missing("consistency", claim, "images of the same noise at several S")
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
        return missing("reconstruction", claim, "the error at several S")
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
    of it, but blurred samples do so too, and leaves it open. That it holds says no more than that none were found.
    """
    claim = "No near-exact copies of training images are found among the samples."
    facts = record.results.get("memorisation")
    if facts is None:
        return missing("memorisation", claim, "how near the samples lie to the training images")
    nearer = measured(facts, "nearer", "nearer_")
    copies, fair = facts["p_value"] < CHANCE, nearer.low <= 0.5
    chance = "p < 0.001" if facts["p_value"] < 0.001 else f"p = {facts['p_value']:.2g}"
    said = (
        f"{facts['flagged']:g} of {facts['count']:,} samples {'is' if facts['flagged'] == 1 else 'are'} "
        f"suspiciously near to one of {facts['train_count']:,} training images, where {facts['expected']:.3g} are "
        f"expected of new images ({chance}). A sample lies nearer to the training set than a held-out image in a "
        f"share of {nearer} of their pairs; 0.5 is fair. Copies that are further off, such as with noise of an rms "
        "above 0.1 to 0.2 of pixels from −1 to 1, mostly pass unseen."
    )
    return Claim("memorisation", claim, False if copies else True if fair else None, said)
