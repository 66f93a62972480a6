"""The training loop, as a generator: the caller decides what to print, save and draw."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from ddim.contract import check_data
from ddim.data.images import Images
from ddim.data.items import open_items
from ddim.denoiser import Denoiser
from ddim.device import autocast
from ddim.errors import UserError
from ddim.noise import DROPOUT, stream
from ddim.train.distributed import Distributed
from ddim.train.guards import Breakdown, is_out_of_memory, out_of_memory
from ddim.train.objective import Denoising, Objective
from ddim.train.precision import training_precision
from ddim.train.recipe import Plan
from ddim.train.state import State


class Progress(NamedTuple):
    """The state of a training after an update. Training continues to change `average` and `state`."""

    step: int  # updates made
    epoch: float  # passes over the images made
    fraction: float  # share of the whole training that is done, in (0, 1]; 1 after the last update
    loss: float  # mean loss of this batch, weighted as in the plan
    seconds: float  # time since training began, with evaluation, without interruptions
    average: Denoiser  # the model with the averaged weights so far, in fp32 if `model` is in bf16 or fp16
    state: State  # everything that a checkpoint needs


def fit(
    model: Denoiser,
    images: Images | Any,
    plan: Plan,
    *,
    distributed: Distributed | None = None,
    state: State | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    recover: Callable[[Breakdown], bool] = lambda breakdown: False,
    objective: Objective | None = None,
    engine: Distributed | None = None,
) -> Iterator[Progress]:
    """Train a model in place, on the device where it is, and yield the progress after each update.

    The data of an update depend on (seed, step, position in the batch) alone, see `ddim.train.batches`. So a
    training that continues from a saved state makes the same updates as an uninterrupted one, and any number of
    processes learns from the same batches.

    Args:
        model: the model to train; its network ends with the latest weights, not with the averaged ones.
        images: the training images: `Images`, or an array, a tensor, a data set or a loader of PyTorch, which
            `ddim.open_images` opens. The model takes over their `values`.
        plan: how to train.
        distributed: the processes that train together; None is this one alone.
        state: a state of `model.network` to continue from; None begins.
        interrupted: called after each update; once it returns True in any process, training ends in all of them.
        recover: called when training breaks down; if it returns True, it has set `state` to an earlier step, and
            training continues from there.
        objective: what to minimise; None is the denoising loss of the plan.
        engine: deprecated name of `distributed`.

    Raises:
        UserError: images that cannot be opened, or of another shape or number of classes than the model's (without
            classes, it takes images of any), a weighting that is not registered, a loss that is NaN or explodes, or
            too little memory. The state is then that of the step before.
    """
    if engine is not None:
        warnings.warn(
            "fit(engine=) is now fit(distributed=); the old name goes with ddim 0.2.",
            DeprecationWarning,
            stacklevel=2,
        )
        distributed = distributed or engine
    if not torch.is_grad_enabled():
        raise UserError("Training needs gradients; call fit outside torch.no_grad and torch.inference_mode.")
    images = open_items(images)
    check_data(images, model.shape, model.classes, model.conditions)
    if not isinstance(plan, Plan):
        raise UserError(f"fit takes a ddim.train.Plan; got {plan!r}.")
    model.null_class, model.values = plan.label_dropout > 0, images.values
    distributed = distributed or Distributed(str(model.device))
    state = state or State(model.network, plan)
    objective = objective or Denoising(model, images, plan)
    update = Update(model, objective, plan, distributed, state)
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


class Update:
    """One update of the weights for each call: the clipped gradient of a batch, a step of the optimizer, the averages.

    Raises:
        UserError: a batch of fewer images than there are processes.
    """

    def __init__(
        self, model: Denoiser, objective: Objective, plan: Plan, distributed: Distributed, state: State
    ) -> None:
        if plan.batch_size < distributed.processes:
            raise UserError(
                f"A batch of {plan.batch_size} images cannot be shared by {distributed.processes} processes; raise "
                "--batch-size."
            )
        memory_format = torch.channels_last if plan.channels_last else torch.contiguous_format
        network = model.network.to(memory_format=memory_format)  # type: ignore[call-overload]
        if plan.compile:
            network.compile()
        self.network = distributed.wrap(network)
        self.model = model if self.network is model.network else model.with_network(self.network)
        self.precision = training_precision(model, plan.precision, distributed)
        self.objective = objective
        self.plan, self.distributed, self.state = plan, distributed, state
        self.weights = list(state.network.parameters())

    def __call__(self, step: int, left: float) -> float:
        """Make update `step`, from 1 on, and return the mean loss of its batch. Raises `UserError` as `fit`.

        `left` is the share of the training that is left before it, in (0, 1].
        """
        state, plan = self.state, self.plan
        rate = state.rate * plan.learning_rate
        for group in state.optimizer.param_groups:
            group["lr"] = rate * plan.learning_rate_factor(step, left)
        (loss,) = self.distributed.sum(self._gradient(step))
        state.scaler.unscale_(state.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, plan.clip).item()
        # fp16 overflows at times: the scaler skips that update
        overflow = state.scaler.is_enabled() and not math.isfinite(norm) and state.scaler.get_scale() > 1
        state.guard.check(step, loss, 0.0 if overflow else norm, rate, self.precision)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        for average in state.averages:
            average.update()
        return loss

    def _gradient(self, step: int) -> float:
        """Compute the gradients of the batch's mean loss; return this process's share of that loss."""
        share = self.distributed.share(self.plan.batch_size)
        while True:
            self.state.optimizer.zero_grad()
            count = self.state.parts
            cuts = [share.start + len(share) * i // count for i in range(count + 1)]
            parts = [range(a, b) for a, b in pairwise(cuts) if a < b]
            try:
                return math.fsum(self._part(step, part, part is parts[-1]) for part in parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.distributed.processes > 1 or count >= len(share):
                    raise out_of_memory(len(share), count) from error
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state.parts *= 2  # from here on, the same batch in smaller parts

    def _part(self, step: int, positions: range, last: bool) -> float:
        model, plan, device = self.model, self.plan, self.model.device
        index = (step - 1) * plan.batch_size + positions.start
        with (
            seeded(int(stream(plan.seed, index, DROPOUT).integers(2**63)), device),  # PyTorch's own dropout
            nullcontext() if last else self.distributed.no_sync(self.network),
        ):
            with autocast(self.precision, device):
                losses = self.objective.losses(model, step, positions)
            share = losses.sum() / plan.batch_size
            if not share.requires_grad:
                raise UserError(
                    "The loss has no gradient in the network's weights; leave out what detaches its output, and let "
                    "them require gradients."
                )
            # DDP averages the processes' gradients: times their number, that is the sum of the shares.
            self.distributed.backward(self.state.scaler.scale(share * self.distributed.processes))
        return share.item()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within this context, PyTorch's generators start from `seed`; afterwards their states are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
