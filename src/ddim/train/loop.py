"""The training loop, as a generator: the caller decides what to print, save and draw."""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train.distributed import Distributed
from ddim.train.guards import Breakdown
from ddim.train.recipe import Plan
from ddim.train.state import State
from ddim.train.update import Update


class Progress(NamedTuple):
    """The state of a training after an update.

    Attributes:
        step: updates made.
        epoch: passes over the images made, a real number.
        fraction: share of the whole training that is done, in (0, 1]; 1 after the last update.
        loss: mean loss of this batch, weighted as in the plan.
        seconds: time since training began, with evaluation, without interruptions.
        average: the model with the averaged weights so far; training continues to change it.
        state: everything that a checkpoint needs; training continues to change it, too.
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
    distributed: Distributed | None = None,
    state: State | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    recover: Callable[[Breakdown], bool] = lambda breakdown: False,
    engine: Distributed | None = None,
) -> Iterator[Progress]:
    """Train a model in place, on the device where it is.

    The data of an update depend on (seed, step, position in the batch) alone, see `ddim.train.batches`. So a
    training that continues from a saved state makes the same updates as an uninterrupted one, and any number of
    processes learns from the same batches.

    Args:
        model: the model to train; its network ends with the latest weights, not with the averaged ones.
        images: the training images.
        plan: how to train.
        distributed: the processes that train together; None is this one alone.
        state: a state of `model.network` to continue from; None begins.
        interrupted: called after each update; once it returns True in any process, training ends in all of them.
        recover: called when training breaks down; if it returns True, it has set `state` to an earlier step, and
            training continues from there.
        engine: deprecated name of `distributed`.

    Yields:
        The progress after each update.

    Raises:
        UserError: a weighting that is not registered, a loss that is NaN or explodes, or too little memory. The
            state is then that of the step before.
    """
    if engine is not None:
        warnings.warn(
            "fit(engine=) is now fit(distributed=); the old name goes with ddim 0.2.",
            DeprecationWarning,
            stacklevel=2,
        )
        distributed = distributed or engine
    distributed = distributed or Distributed(str(model.device))
    state = state or State(model.network, plan)
    update = Update(model, images, plan, distributed, state)
    averaged = model.with_network(state.averages[0].network)
    total = plan.total_steps(len(images))
    began = time.perf_counter() - state.seconds

    def fraction() -> float:
        by_steps = state.step / total if total else 0.0
        by_clock = state.seconds / (60 * plan.minutes) if plan.minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    interrupts = 0.0
    while not interrupts and fraction() < 1:
        try:
            loss = update(state.step + 1, 1 - fraction())
        except Breakdown as breakdown:
            if not recover(breakdown):
                raise
            continue
        # The main process's clock counts for all, and an interrupt in any process ends all of them.
        elapsed = time.perf_counter() - began if distributed.main else 0.0
        state.seconds, interrupts = distributed.sum(elapsed, float(interrupted()))
        state.step, state.losses = state.step + 1, (state.losses[0] + loss, state.losses[1] + 1)
        epoch = state.step * plan.batch_size / len(images)
        yield Progress(state.step, epoch, fraction(), loss, state.seconds, averaged, state)
