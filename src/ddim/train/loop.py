"""The training loop, as a generator: the caller decides what to print, save and draw."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train.engine import Engine
from ddim.train.guards import Breakdown
from ddim.train.plan import Plan
from ddim.train.state import State
from ddim.train.update import Update


class Progress(NamedTuple):
    """Where training stands after an update.

    Attributes:
        step: updates done.
        epoch: passes over the images done, a real number.
        fraction: of the whole training that is done, in (0, 1]; 1 after the last update.
        loss: mean loss of this batch, weighted as the plan says.
        seconds: since training began, evaluation included, interruptions not.
        average: the model with the averaged weights, as good as it is so far. It goes on changing.
        state: all that a checkpoint needs. It goes on changing too.
    """

    step: int
    epoch: float
    fraction: float
    loss: float
    seconds: float
    average: Denoiser
    state: State


def fit(
    model: Denoiser,
    images: Images,
    plan: Plan,
    *,
    engine: Engine | None = None,
    state: State | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    recover: Callable[[Breakdown], bool] = lambda breakdown: False,
) -> Iterator[Progress]:
    """Train a model in place, on the device where it is.

    What an update sees depends on (seed, step, position in the batch) alone, see `draws`: a training that goes
    on from a saved state makes the updates that the uninterrupted one would have made, and any number of
    processes learns from the same batches.

    Args:
        model: to train; its network is left with the latest weights, not with the averaged ones.
        images: what to learn.
        plan: how.
        engine: the processes that train together; None is this one alone.
        state: to go on from, made for `model.network`; None begins.
        interrupted: asked after each update; once it says so in any process, training ends in all of them.
        recover: asked when training breaks down; if it says so, it has brought `state` to an earlier step, and
            training goes on from there.

    Yields:
        Where training stands, after each update.

    Raises:
        UserError: a loss that is not a number or explodes, or too little memory. The state then is that of the
            step before.
    """
    engine = engine or Engine(str(model.device))
    state = state or State(model.network, plan)
    update = Update(model, images, plan, engine, state)
    averaged = model.with_network(state.averages[0].network)
    total = plan.total_steps(len(images))
    began = time.perf_counter() - state.seconds

    def fraction() -> float:
        by_steps = state.step / total if total else 0.0
        by_clock = state.seconds / (60 * plan.minutes) if plan.minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    stops = 0.0
    while not stops and fraction() < 1:
        try:
            loss = update(state.step + 1, 1 - fraction())
        except Breakdown as breakdown:
            if not recover(breakdown):
                raise
            continue
        # The first process's clock is the one that counts, and an interrupt in any process ends all.
        now = time.perf_counter() - began if engine.main else 0.0
        state.seconds, stops = engine.sum(now, float(interrupted()))
        state.step, state.losses = state.step + 1, (state.losses[0] + loss, state.losses[1] + 1)
        epoch = state.step * plan.batch_size / len(images)
        yield Progress(state.step, epoch, fraction(), loss, state.seconds, averaged, state)
