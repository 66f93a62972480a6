"""The verdicts as lines of text."""

from collections.abc import Iterator, Sequence

from ddim.verify.verdict import Proof, Verdict

COLUMNS = ("Gaussian", "mixture", "samples", "point mass", "calls", "repeat", "batch")
LEGEND = """\
order: stated; Gaussian, mixture: the order measured with closed-form data, the lowest of two ladders
samples: mean and deviation of 40,000 samples of the mixture off by so many times what chance and step size allow
point mass: error where any step is exact; calls: ladders with other calls of the network than promised, or at t = 0
repeat, batch: difference between two runs, and between an image alone and in a batch"""


def lines(verdicts: Sequence[Verdict], identities: Sequence[Proof] = ()) -> Iterator[str]:
    """A line for each solver, then one for each identity; a number that fails ends in an exclamation mark."""
    rows = [["solver", "calls/step", "order", *COLUMNS, ""]]
    for one in verdicts:
        proofs = {proof.claim: proof for proof in one.proofs}
        cells = (number(proofs[name]) if name in proofs else "-" for name in COLUMNS)
        rows.append([one.solver, f"{one.calls:g}", str(one.order), *cells, mark(one.passed)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *rest]).rstrip()
    yield from LEGEND.splitlines()
    for proof in identities:
        yield f"{mark(proof.passed)}  {number(proof):>8}  {proof.claim}"


def number(proof: Proof) -> str:
    """The value in few characters."""
    if proof.need == "least" or proof.claim == "samples":
        text = f"{proof.value:.2f}"
    elif proof.value == 0 or proof.value == int(min(proof.value, 1e6)):
        text = f"{proof.value:.0f}"
    else:
        text = f"{proof.value:.0e}"
    return text if proof.passed else f"{text}!"


def mark(passed: bool) -> str:
    """In a word."""
    return "pass" if passed else "FAIL"
