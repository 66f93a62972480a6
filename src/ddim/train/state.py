"""Everything that training carries from one update to the next. Random numbers depend on the step alone."""

import copy
from functools import cache
from typing import Annotated, Any, TypeAlias, TypedDict

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from ddim.errors import UserError
from ddim.train import optimizers
from ddim.train.guards import Guard
from ddim.train.recipe import Plan

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(gt=0, lt=2**53)]


class GuardNumbers(TypedDict):
    """The numbers of a `Guard`."""

    running: float
    lowest: float
    seen: Count


class Numbers(TypedDict):
    """What `State.numbers` returns, and a checkpoint stores."""

    step: Count
    average: str
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    accumulate: Positive
    parts: Positive
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)]
    guard: GuardNumbers
    lines: Count
    losses: tuple[float, Count]
    updates: Count
    scaler: dict[str, float]


class Average:
    """A power-function average of a network's weights (arXiv 2312.02696, section 3.1).

    The weights of step tau count as tau^gamma. The average therefore covers the same share of the training,
    however long that has been: no decay depends on its length, and no start-up phase needs a correction.
    Attribute `network` is a separate module with the averaged weights. Weights of less than 32 bits are averaged in
    float32, because a step of the average is smaller than their resolution.

    Args:
        network: the network whose weights are averaged; they are copied now, and read in each `update`.
        width: standard deviation of the steps that count, as a share of the steps so far, in [0, 0.25].
            0 is no averaging: the latest weights.
    """

    def __init__(self, network: nn.Module, width: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            if tensor.is_floating_point() and tensor.element_size() < 4:
                tensor.data = tensor.data.float()
        self.width, self.updates = width, 0
        # Listed once: iterating over the modules at each update takes milliseconds.
        self._weights: list[Tensor] = list(self.network.parameters())
        self._latest: list[Tensor] = list(network.parameters())
        self._source = network

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's current weights; copy its buffers."""
        self.updates += 1
        share = 1 - (1 - 1 / self.updates) ** (gamma(self.width) + 1) if self.width else 1.0  # 1 - beta
        weights = [weight.to(mean.dtype) for mean, weight in zip(self._weights, self._latest, strict=True)]
        torch._foreach_lerp_(self._weights, weights, share)
        for averaged, latest in zip(self.network.buffers(), self._source.buffers(), strict=True):
            averaged.copy_(latest)


@cache
def gamma(width: float) -> float:
    """Return the exponent for a width: width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())


class State:
    """The latest weights, their averages, the optimizer's moments, and the progress of the training.

    Args:
        network: the network to train; it is not copied.
        plan: how to train.

    Raises:
        UserError: the network has no trainable weights.
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(
                "The network has no weights to train; choose another network, or unfreeze some of its weights."
            )
        # The fused AdamW reads memory in order, so moments need the memory format of their weights from the start.
        memory_format = torch.channels_last if plan.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.averages = [Average(network, width) for width in plan.ema]
        self.optimizer = optimizers.build(network, plan.optimizer, plan.learning_rate)
        device = next(network.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")
        self.step, self.seconds = 0, 0.0  # updates made, and the time spent on them
        self.accumulate, self.parts = plan.accumulate, plan.accumulate  # parts of a process's share of a batch
        self.rate, self.guard = 1.0, Guard()  # factor of the learning rate, below 1 after a breakdown
        self.lines = 0  # lines of metrics that were due so far
        self.losses = (0.0, 0)  # sum and count of the losses since the last line

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by name: raw/..., averages by width, e.g. 0.1/..., and moments, e.g. exp_avg/..."""
        state = self.optimizer.state  # without parameters that are frozen or not used
        parameters = [(name, parameter) for name, parameter in self.network.named_parameters() if parameter in state]
        moments = {f"{moment}/{n}": state[p][moment] for n, p in parameters for moment in self._moments(p)}
        return self._weights() | moments

    def _networks(self) -> dict[str, nn.Module]:
        return {"raw": self.network} | {f"{average.width:g}": average.network for average in self.averages}

    def _weights(self) -> dict[str, Tensor]:
        networks = self._networks().items()
        return {f"{group}/{name}": t for group, network in networks for name, t in network.state_dict().items()}

    def _moments(self, parameter: nn.Parameter) -> tuple[str, ...]:
        return optimizers.moments(self.optimizer, parameter)

    def numbers(self) -> dict[str, Any]:
        """Return everything that is not a tensor, ready for JSON, which keeps every bit of a float."""
        updates = (moments["step"] for moments in self.optimizer.state.values() if "step" in moments)
        return {
            "step": self.step,
            "average": f"{self.averages[0].width:g}",  # the one that is saved for use
            "seconds": self.seconds,
            "accumulate": self.accumulate,
            "parts": self.parts,
            "rate": self.rate,
            "guard": vars(self.guard).copy(),
            "lines": self.lines,
            "losses": list(self.losses),
            "updates": int(next(updates, 0)),  # made by AdamW: in fp16 it may skip some
            "scaler": self.scaler.state_dict(),
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Set this state to the one that `tensors` and `numbers` were taken from, or leave it as it is.

        Raises:
            ValueError: they belong to another network or plan.
        """
        parameters = dict(self.network.named_parameters())
        moments = {name: self._moments(parameter) for name, parameter in parameters.items()}
        for name, kept in moments.items():
            if any(f"{moment}/{name}" in tensors for moment in {*optimizers.ADAMW, *optimizers.MUON} - {*kept}):
                raise ValueError(f"{name} has the moments of another optimizer")
        moments = {name: kept for name, kept in moments.items() if f"{kept[0]}/{name}" in tensors}
        expected = self._weights() | {
            f"{moment}/{name}": parameters[name] for name, kept in moments.items() for moment in kept
        }
        for name, tensor in expected.items():
            found = _kind(tensors[name]) if name in tensors else "missing"
            if found != _kind(tensor):
                raise ValueError(f"{name} is {found} there, and {_kind(tensor)} here")
        if numbers["scaler"].keys() != self.scaler.state_dict().keys():
            raise ValueError("only one of the two trains in fp16")
        for group, network in self._networks().items():
            network.load_state_dict({name: tensors[f"{group}/{name}"] for name in network.state_dict()})
        for average in self.averages:
            average.updates = numbers["step"]
        for name, kept in moments.items():
            parameter = parameters[name]
            state = {moment: torch.empty_like(parameter).copy_(tensors[f"{moment}/{name}"]) for moment in kept}
            if "exp_avg" in state:  # fused: the count is on the GPU too
                state["step"] = torch.tensor(numbers["updates"], dtype=torch.float32, device=parameter.device)
            self.optimizer.state[parameter] = state
        self.scaler.load_state_dict(numbers["scaler"])
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        self.rate = numbers["rate"]
        vars(self.guard).update(numbers["guard"])
        self.lines, self.losses = numbers["lines"], tuple(numbers["losses"])
        if numbers["accumulate"] == self.accumulate:  # else the plan has changed
            self.parts = numbers["parts"]


def _kind(tensor: Tensor) -> str:
    """Return what must be equal for a tensor to take the values of another: the shape, and the dtype if not float."""
    dtype = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return f"{dtype} {tuple(tensor.shape)}"
