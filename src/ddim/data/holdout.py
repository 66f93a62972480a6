"""Which images are kept from training, where nobody has said."""

from collections.abc import Iterable

ONE_IN = 20
MOST = 1000


def held_out(digests: Iterable[str]) -> set[str]:
    """The contents to test on: one in 20 of the different ones, 1 at least if there are 2, 1,000 at most.

    They are the smallest of the digests, so the choice looks random and yet depends on nothing but the files
    themselves: copies of one file are on one side, whatever they are called, and a file that is added moves one
    other file at most.

    Args:
        digests: a hash of each file's bytes.
    """
    different = sorted(set(digests))
    return set(different[: min(max(round(len(different) / ONE_IN), 1), MOST, max(len(different) - 1, 0))])
