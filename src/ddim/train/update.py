"""One update of the weights: the clipped gradient of a batch, a step of AdamW, then the averages."""

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
from ddim.train.batches import Prefetcher, draw_batch
from ddim.train.distributed import Distributed
from ddim.train.guards import is_out_of_memory, out_of_memory
from ddim.train.loss import weight, weightings
from ddim.train.recipe import Plan
from ddim.train.state import State


class Update:
    """The updates of a training, one for each call.

    Args:
        model: the model to train in place; `state` was created for its network.
        images: the training images. Their pixels are kept on the model's GPU if they fill at most half of its
            free memory.
        plan: how to train.
        distributed: the processes that share each batch.
        state: what an update changes.

    Raises:
        UserError: a batch of fewer images than there are processes, or a weighting that is not registered.
    """

    def __init__(self, model: Denoiser, images: Images, plan: Plan, distributed: Distributed, state: State) -> None:
        if plan.batch_size < distributed.processes:
            raise UserError(
                f"A batch of {plan.batch_size} images cannot be shared by {distributed.processes} processes; raise "
                "--batch-size."
            )
        _ = weightings[plan.weighting]  # refuses an unknown name before the first update
        self.format = torch.channels_last if plan.channels_last else torch.contiguous_format
        network = model.network.to(memory_format=self.format)  # type: ignore[call-overload]
        if plan.compile:
            network.compile()
        self.network = distributed.wrap(network)
        self.model = model if self.network is model.network else model.with_network(self.network)
        self.precision = "fp32" if model.dtype != torch.float32 else choose_precision(plan.precision, model.device)
        draw = partial(draw_batch, plan, resident(images, model.device), model.schedule.T)
        self.draw = Prefetcher(draw, model.device) if model.device.type == "cuda" else draw
        self.plan, self.distributed, self.state = plan, distributed, state
        self.weights = list(state.network.parameters())

    def __call__(self, step: int, left: float) -> float:
        """Make one update.

        Args:
            step: its number, from 1 on.
            left: the share of the training that is left before it, in (0, 1].

        Returns:
            The mean loss of the batch.

        Raises:
            UserError: as `fit`.
        """
        state, plan = self.state, self.plan
        for group in state.optimizer.param_groups:
            group["lr"] = state.rate * plan.learning_rate * plan.learning_rate_factor(step, left)
        (loss,) = self.distributed.sum(self._gradient(step))
        state.scaler.unscale_(state.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, plan.clip).item()
        overflow = state.scaler.is_enabled() and not math.isfinite(norm) and state.scaler.get_scale() > 1
        # fp16 overflows at times: the scaler skips that update
        state.guard.check(step, loss, 0.0 if overflow else norm, state.rate * plan.learning_rate)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        for average in state.averages:
            average.update()
        return loss

    def _gradient(self, step: int) -> float:
        """Compute the gradients of the batch's mean loss; return this process's share of that loss."""
        positions = self.distributed.share(self.plan.batch_size)
        while True:
            self.state.optimizer.zero_grad()
            try:
                parts = [p for p in split(positions, self.state.parts) if p]
                return math.fsum(self._part(step, part, part is parts[-1]) for part in parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.distributed.processes > 1 or self.state.parts >= len(positions):
                    raise out_of_memory(len(positions), self.state.parts) from error
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.state.parts *= 2  # from here on, the same batch in smaller parts

    def _part(self, step: int, positions: range, last: bool) -> float:
        model, plan, device = self.model, self.plan, self.model.device
        x0, label, t, noise = self.draw(step, positions)
        x0 = x0.to(device, model.dtype, memory_format=self.format)
        index = (step - 1) * plan.batch_size + positions.start
        model.train()
        with (
            seeded(int(stream(plan.seed, index, DROPOUT).integers(2**63)), device),  # PyTorch's own dropout
            nullcontext() if last else self.distributed.no_sync(self.network),
        ):
            with autocast(self.precision, device):
                losses = model.loss(x0, t, noise.to(x0), None if model.classes is None else label)
            losses = weight(plan.weighting, model.predicts, model.schedule(t)).to(losses) * losses
            share = losses.sum() / plan.batch_size
            # DDP averages the processes' gradients: times their number, that is the sum of the shares.
            self.distributed.backward(self.state.scaler.scale(share * self.distributed.processes))
        return share.item()


def resident(images: Images, device: torch.device) -> Images:
    """Return the images with their pixels on the GPU, as uint8, if they fill at most half of its free memory."""
    if device.type != "cuda" or images.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return images
    return replace(images, pixels=images.pixels.to(device))


def split(positions: range, parts: int) -> list[range]:
    """Return `positions` in `parts` nearly equal parts; some are empty if there are more parts than positions."""
    cuts = [positions.start + len(positions) * i // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(cuts)]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within this context, PyTorch's generators start from `seed`; afterwards their states are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
