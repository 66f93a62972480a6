"""Devices, precisions and eval mode: what this machine has, and how a network computes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ddim.errors import UserError

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}

_evaluated: dict[nn.Module, tuple[int, dict[nn.Module, bool]]] = {}  # network -> its users, its modules' own modes
_lock = threading.Lock()  # of this table


def choose_device(name: str | None) -> str:
    """Return the device called `name`; None is the first available of cuda, mps and cpu.

    Raises `UserError` if this machine does not have the device.
    """
    machine = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return next(device for device, available in machine.items() if available)
    try:
        usable = torch.empty(0, device=name).device.type in machine
    except (RuntimeError, AssertionError):  # PyTorch raises either, for an unknown device or one not built in
        usable = False
    if not usable:
        available = ", ".join(device for device, has in machine.items() if has)
        raise UserError(f"There is no device {name!r} on this machine; choose one of {available}.")
    return name


def choose_precision(asked: str, device: torch.device) -> str:
    """Return the precision to compute in: "auto" is bf16 where the hardware has bf16 arithmetic, else fp32."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:  # on this one processor type PyTorch can say so; elsewhere bf16 may be emulated, and slow
        read: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
        capabilities = read() if device.type == "cpu" else {}
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bf16" if native else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which the network computes in `precision`; the schedule's arithmetic stays in fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, PRECISIONS[precision])


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network that `torch.compile` has wrapped, whose weights have their own names; any other as it is."""
    inner = getattr(network, "_orig_mod", network)
    return inner if isinstance(inner, nn.Module) else network


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within this context the network is in eval mode; afterwards each of its modules is in its own mode again.

    Threads may share a network: the first to enter sets the mode, and the last to leave restores it.
    """
    with _lock:
        if network not in _evaluated:
            _evaluated[network] = 0, {module: module.training for module in network.modules()}
            network.eval()
        users, modes = _evaluated[network]
        _evaluated[network] = users + 1, modes
    try:
        yield
    finally:
        with _lock:
            users, modes = _evaluated.pop(network)
            if users > 1:
                _evaluated[network] = users - 1, modes
            else:
                for module, training in modes.items():
                    module.training = training
