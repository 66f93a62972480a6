"""Everything that training carries from one update to the next. Random numbers depend on the step alone."""

from typing import Any

import torch
from torch import Tensor, nn

from ddim.errors import UserError
from ddim.train.ema import Average
from ddim.train.guards import Guard
from ddim.train.recipe import Plan

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's own names


class State:
    """The latest weights, their averages, the optimizer's moments, and the progress of the training.

    Args:
        network: the network to train; it is not copied.
        plan: how to train.

    Attributes:
        step: updates made.
        seconds: time spent on them.
        parts: parts in which each process computes its share of a batch.
        rate: factor of the plan's learning rate, below 1 after a breakdown.
        guard: the check of the loss, which detects a breakdown.
        lines: lines of metrics that were due so far.
        losses: (sum, count) of the losses since the last line.

    Raises:
        UserError: the network has no trainable weights.
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(
                "The network has no weights to train; choose another network, or unfreeze some of its weights."
            )
        # The fused AdamW reads memory in order, so moments need the memory format of their weights from the start.
        self.network = network.to(memory_format=_format(plan))  # type: ignore[call-overload]
        self.averages = [Average(network, width) for width in plan.ema]
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=plan.learning_rate, weight_decay=0.0, fused=True
        )
        self.scaler = torch.amp.GradScaler(_device(network).type, enabled=plan.precision == "fp16")
        self.accumulate = plan.accumulate
        self.step, self.seconds, self.parts = 0, 0.0, plan.accumulate
        self.lines, self.losses = 0, (0.0, 0)
        self.rate, self.guard = 1.0, Guard()

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by name: raw/..., averages by width, e.g. 0.1/..., and moments, e.g. exp_avg/..."""
        groups = {"raw": self.network.state_dict()}
        groups |= {_name(average.width): average.network.state_dict() for average in self.averages}
        parameters = dict(self.network.named_parameters())
        moments = self.optimizer.state  # none for parameters that are frozen or not used
        for moment in MOMENTS:
            groups[moment] = {n: moments[p][moment] for n, p in parameters.items() if p in moments}
        return {f"{group}/{name}": tensor for group, table in groups.items() for name, tensor in table.items()}

    def numbers(self) -> dict[str, Any]:
        """Return everything that is not a tensor, ready for JSON, which keeps every bit of a float."""
        return {
            "step": self.step,
            "average": _name(self.averages[0].width),  # the one that is saved for use
            "seconds": self.seconds,
            "accumulate": self.accumulate,
            "parts": self.parts,
            "rate": self.rate,
            "guard": vars(self.guard).copy(),
            "lines": self.lines,
            "losses": list(self.losses),
            "updates": self._updates(),
            "scaler": self.scaler.state_dict(),
        }

    def _updates(self) -> int:
        """The number of updates that the optimizer made: in fp16 it may skip some."""
        return int(next((moments["step"] for moments in self.optimizer.state.values()), 0))

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Set this state to the one that `tensors` and `numbers` were taken from.

        Raises:
            KeyError, RuntimeError: they belong to another network or plan.
        """
        _copy(self.network, tensors, "raw")
        for average in self.averages:
            _copy(average.network, tensors, _name(average.width))
            average.updates = numbers["step"]
        for name, parameter in self.network.named_parameters():
            if f"{MOMENTS[0]}/{name}" in tensors:
                moments = {m: torch.empty_like(parameter).copy_(tensors[f"{m}/{name}"]) for m in MOMENTS}
                count = torch.tensor(numbers["updates"], dtype=torch.float32, device=parameter.device)
                self.optimizer.state[parameter] = {"step": count, **moments}  # fused: the count is on the GPU too
        self.scaler.load_state_dict(numbers["scaler"])
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        self.rate = numbers["rate"]
        vars(self.guard).update(numbers["guard"])
        self.lines, self.losses = numbers["lines"], tuple(numbers["losses"])
        if numbers["accumulate"] == self.accumulate:  # else the plan has changed
            self.parts = numbers["parts"]


def _copy(network: nn.Module, tensors: dict[str, Tensor], group: str) -> None:
    network.load_state_dict({name: tensors[f"{group}/{name}"] for name in network.state_dict()})


def _format(plan: Plan) -> torch.memory_format:
    return torch.channels_last if plan.channels_last else torch.contiguous_format


def _name(width: float) -> str:
    return f"{width:g}"


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
