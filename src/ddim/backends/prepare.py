"""Prepare a backend for a network: made now or read from the cache folder, and compared with the network either way."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ddim.backends.base import Backend, Source, backends
from ddim.backends.kept import forget, keep
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
    key = cls.key(source, precision, batch)
    try:
        try:
            return _checked(cls, name, key, precision, source, batch)
        except Exception:
            if key is None:
                raise
            forget(name, key)  # damaged, or made from other code of the same network
            return _checked(cls, name, key, precision, source, batch)
    except Exception as error:  # exporters and compilers raise anything
        raise Unfit(first_line(error) or type(error).__name__) from error


def error(backend: Callable[..., Tensor], source: Source, batch: int) -> float:
    """Return the relative error of a backend's output to the network's: ||difference|| / ||output||, NaN if one is."""
    inputs = source.inputs(batch)
    with torch.no_grad(), evaluating(source.network):
        expected, computed = source.network(*inputs), backend(*inputs)
    return float((computed.float() - expected).norm() / expected.norm().clamp(min=1e-12))


def _checked(cls: type[Backend], name: str, key: str | None, precision: str, source: Source, batch: int) -> Backend:
    make = partial(cls.make, source, precision, batch)
    with torch.no_grad():
        backend = cls(source, precision, batch, None if key is None else keep(name, key, make))
    relative = error(backend, source, batch)
    if not relative <= TOLERANCE[precision]:  # also for NaN
        raise Unfit(f"its output differs from the network's by {relative:.2g} of its size")
    return backend
