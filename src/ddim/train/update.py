"""One update of the weights: the gradient of a batch, cut, then AdamW and the averages."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.device import autocast, choose_precision
from ddim.errors import UserError
from ddim.noise import DROPOUT, stream
from ddim.train.ahead import Ahead
from ddim.train.draws import draw
from ddim.train.engine import Engine
from ddim.train.guards import is_memory, no_memory
from ddim.train.plan import Plan
from ddim.train.state import State
from ddim.train.weighting import weight


class Update:
    """Makes the updates of a training, one for each call.

    Args:
        model: to train in place; `state` was made for its network.
        images: what to learn. They move to the model's GPU as uint8 if they fill at most half of what is free.
        plan: how.
        engine: the processes that share each batch.
        state: what an update changes.

    Raises:
        UserError: a batch of fewer images than there are processes.
    """

    def __init__(self, model: Denoiser, images: Images, plan: Plan, engine: Engine, state: State) -> None:
        if plan.batch_size < engine.processes:
            raise UserError(
                f"A batch of {plan.batch_size} cannot be shared by {engine.processes} processes; raise it."
            )
        self.format = torch.channels_last if plan.channels_last else torch.contiguous_format
        network = model.network.to(memory_format=self.format)  # type: ignore[call-overload]
        if plan.compile:
            network.compile()
        self.network = engine.wrap(network)
        self.model = model if self.network is model.network else model.with_network(self.network)
        self.precision = "fp32" if model.dtype != torch.float32 else choose_precision(plan.precision, model.device)
        in_time = partial(draw, plan, resident(images, model.device), model.schedule.T)
        self.draw = Ahead(in_time, model.device) if model.device.type == "cuda" else in_time
        self.plan, self.engine, self.state = plan, engine, state
        self.weights = list(state.network.parameters())

    def __call__(self, step: int, left: float) -> float:
        """Make update `step`, from 1 on, with so much of the training left before it, in (0, 1].

        Returns the mean loss of the batch. Raises `UserError` as `fit` does.
        """
        state, plan = self.state, self.plan
        for group in state.optimizer.param_groups:
            group["lr"] = state.rate * plan.learning_rate * plan.pace(step, left)
        (loss,) = self.engine.sum(self._gradient(step))
        state.scaler.unscale_(state.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, plan.clip).item()
        overflow = state.scaler.is_enabled() and not math.isfinite(norm) and state.scaler.get_scale() > 1
        # fp16 overflows now and then: the scaler skips that update
        state.guard.check(step, loss, 0.0 if overflow else norm, state.rate * plan.learning_rate)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        for average in state.averages:
            average.update()
        return loss

    def _gradient(self, step: int) -> float:
        """Fill the gradients with those of the batch's mean loss; returns this process's part of that mean."""
        positions = self.engine.share(self.plan.batch_size)
        while True:
            self.state.optimizer.zero_grad()
            try:
                parts = [p for p in split(positions, self.state.parts) if p]
                return math.fsum(self._part(step, part, part is parts[-1]) for part in parts)
            except RuntimeError as error:
                if not is_memory(error):
                    raise
                if self.engine.processes > 1 or self.state.parts >= len(positions):
                    raise no_memory(len(positions), self.state.parts) from error
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state.parts *= 2  # the same batch in smaller parts, from here on

    def _part(self, step: int, positions: range, last: bool) -> float:
        model, plan, device = self.model, self.plan, self.model.device
        x0, label, t, noise = self.draw(step, positions)
        x0 = x0.to(device, model.dtype, memory_format=self.format)
        index = (step - 1) * plan.batch_size + positions.start
        model.train()
        with (
            seeded(int(stream(plan.seed, index, DROPOUT).integers(2**63)), device),  # PyTorch's own dropout
            nullcontext() if last else self.engine.no_sync(self.network),
        ):
            with autocast(self.precision, device):
                losses = model.loss(x0, t, noise.to(x0), None if model.classes is None else label)
            losses = weight(plan.weighting, model.predicts, model.schedule(t)).to(losses) * losses
            share = losses.sum() / plan.batch_size
            # The processes' gradients are averaged, so each gives its share of the sum as many times as they are.
            self.engine.backward(self.state.scaler.scale(share * self.engine.processes))
        return share.item()


def resident(images: Images, device: torch.device) -> Images:
    """The images with their pixels on the GPU, as uint8, if they fill at most half of its free memory."""
    if device.type != "cuda" or images.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return images
    return replace(images, pixels=images.pixels.to(device))


def split(positions: range, parts: int) -> list[range]:
    """`positions` in so many nearly equal parts; some are empty if there are more parts than positions."""
    cuts = [positions.start + len(positions) * i // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(cuts)]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's generators start from `seed` within; the CPU's and the device's go on afterwards as if unused."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
