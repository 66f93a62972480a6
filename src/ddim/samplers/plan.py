"""The plan of a solver: every coefficient of every step, computed before the first one.

All solvers here are DDIM's step plus weighted differences between what the network says elsewhere and what it
says at the step's start. Their numbers depend on the ladder alone.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.level import Level
from ddim.samplers.point import Number, Point, level, together


class Move(NamedTuple):
    """x_to = alpha_to x0 + direction eps + sum_j w_j (y_j - y) + std z, where y is the x0 or the eps of the step.

    Attributes:
        to: where it leads.
        direction: rate of the eps term: sigma_to, or less where noise takes its part.
        inner: weights of what is said at the inner stages of this step, in their order.
        past: weights of what was said at the starts of the steps before, newest first.
        std: standard deviation of the injected noise.
    """

    to: Point
    direction: float
    inner: tuple[float, ...] = ()
    past: tuple[float, ...] = ()
    std: float = 0.0


class Step(NamedTuple):
    """One step of one image.

    Attributes:
        last: the move to the next level of the ladder.
        stages: moves to the points where the network is asked before that, beyond the step's start.
        correct: the step before, taken again now that the network has spoken at its end; None for no correction.
            The one inner weight is that of the new prediction.
    """

    last: Move
    stages: tuple[Move, ...] = ()
    correct: Move | None = None


class BatchMove(NamedTuple):
    """A `Move` of a batch: floats where the images share their levels, (B, 1, 1, 1) where they do not."""

    to: Level
    direction: Number
    inner: tuple[Number, ...]
    past: tuple[Number, ...]
    std: Number


class BatchStep(NamedTuple):
    """A `Step` of a batch.

    Attributes:
        last, stages, correct: as of a `Step`.
        who: (B, 1, 1, 1), which images are corrected; None for all that there are.
    """

    last: BatchMove
    stages: tuple[BatchMove, ...]
    correct: BatchMove | None
    who: Tensor | None


def ddim(to: Point) -> Move:
    """The move of DDIM, first order, finite between any two levels (arXiv 2010.02502, Eq. 12)."""
    return Move(to, to.sigma)


def batched(walks: Sequence[Sequence[Point]], plans: Sequence[Sequence[Step]]) -> list[BatchStep]:
    """The plans of the images as one plan: shorter steps wait where they start, and are not changed by it."""
    batch = []
    for n, steps in enumerate(zip(*plans, strict=True)):
        depth = max(len(step.stages) for step in steps)
        padded = [
            step.stages + (ddim(walk[n]),) * (depth - len(step.stages))
            for walk, step in zip(walks, steps, strict=True)
        ]
        correct, who = None, None
        if any(step.correct for step in steps):
            correct = _moves([step.correct or ddim(walk[n]) for walk, step in zip(walks, steps, strict=True)])
            if not all(step.correct for step in steps):  # the move of the others is not made
                who = torch.tensor([step.correct is not None for step in steps]).reshape(-1, 1, 1, 1)
        stages = tuple(_moves(moves) for moves in zip(*padded, strict=True))
        batch.append(BatchStep(_moves([step.last for step in steps]), stages, correct, who))
    return batch


def _moves(moves: Sequence[Move]) -> BatchMove:
    return BatchMove(
        level([move.to for move in moves]),
        together([move.direction for move in moves]),
        tuple(map(together, zip_longest(*(move.inner for move in moves), fillvalue=0.0))),
        tuple(map(together, zip_longest(*(move.past for move in moves), fillvalue=0.0))),
        together([move.std for move in moves]),
    )
