"""Prepare a backend for a network: made now or read from the cache folder, and compared with the network either way."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, backends
from ddim.backends.kept import forget, keep
from ddim.contract import check_output
from ddim.device import evaluating
from ddim.text import first_line

TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
"""Largest relative error (root mean square) of a backend's output to the network's, by precision."""


class Unfit(Exception):
    """A backend cannot compute a network: the text says why."""


def prepare(name: str, precision: str, source: Source, batch: int) -> Backend:
    """Return the backend of a network, whose output has been compared with the network's.

    What is kept on the disk but cannot be read, or computes something else, is made again once.

    Args:
        name, precision: a registered backend, and "fp32" or "bf16".
        source: the network.
        batch: the number of images of most calls.

    Raises:
        Unfit: the network cannot be prepared for this backend, or its output differs.
    """
    cls = backends[name]
    try:
        key = cls.key(source, precision, batch)
        try:
            return _checked(cls, name, key, precision, source, batch)
        except Exception:
            if key is None:
                raise
            forget(name, key)  # damaged, or made from other code of the same network
            return _checked(cls, name, key, precision, source, batch)
    except Exception as error:  # exporters and compilers raise anything
        raise Unfit(first_line(error) or type(error).__name__) from error


def error(backend: Callable[..., Tensor], source: Source, batch: int, time: float | None = None) -> float:
    """Return the relative error of a backend's output to the network's: ||difference|| / ||output||, NaN if one is.

    The times are random, or all are `time`. Raises `Unfit` for an output of another shape.
    """
    inputs, given = source.inputs(batch, time=time), source.inputs(batch, time=time)
    with torch.no_grad(), evaluating(source.network):
        expected = check_output(source.network(*inputs), inputs[0])
        computed = backend(*inputs)
    if not all(map(torch.equal, inputs, given)):
        raise Unfit("it, or the network, changes its input in place")
    if computed.shape != expected.shape:
        raise Unfit(f"its output has the shape {tuple(computed.shape)}, not {tuple(expected.shape)}")
    return float((computed.float() - expected).norm() / expected.norm().clamp(min=1e-12))


def check(
    backend: Callable[..., Tensor], precision: str, source: Source, batch: int, time: float | None = None
) -> None:
    """Raise `Unfit` if the output of a backend differs from the network's, see `error`."""
    relative = error(backend, source, batch, time)
    if not relative <= TOLERANCE[precision]:  # also for NaN
        raise Unfit(f"its output differs from the network's by {relative:.2g} of its size")


def _checked(cls: type[Backend], name: str, key: str | None, precision: str, source: Source, batch: int) -> Backend:
    times: list[float | None] = [None]

    def make(folder: Path) -> None:
        times.extend((1.0, float(source.T)))  # a trace holds one way of a network that branches at some time
        cls.make(source, precision, batch, folder)

    with torch.no_grad():
        backend = cls(source, precision, batch, None if key is None else keep(name, key, make))
    for time in times:
        check(backend, precision, source, batch, time)
    return backend
