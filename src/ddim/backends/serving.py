"""Connect a backend to a model: it is prepared at the first call of `sample`, and again when the weights change."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ddim.backends.base import Source, backends, in_parts
from ddim.backends.calibrate import MANY, calibrate, candidates
from ddim.backends.prepare import Unfit, check, prepare
from ddim.denoiser import Denoiser
from ddim.device import choose_precision
from ddim.errors import Notice, UserError
from ddim.text import first_line, listed

PRECISIONS = ("auto", "fp32", "bf16")
VARIABLE = "DDIM_BACKEND"  # of the environment: what "auto" means, e.g. torch
INTERNAL = frozenset(vars(nn.Module()))  # attributes of every module


def serve(model: Denoiser, backend: str = "auto", precision: str = "auto", spare: float = 0.0) -> Denoiser:
    """Let a backend compute the network of `model.sample`. Return the model.

    Args:
        model: the model. Its network stays as it is, and everything but `sample` calls it.
        backend: a name from `ddim.backends.names()`. "auto" is the fastest that is installed and computes this network
            correctly on this machine, measured once for each kind of network and kept in the cache folder.
        precision: "fp32", "bf16", or "auto": for the backend "auto" what is faster, bf16 only where the hardware has
            it; for the others fp32. Images and weights are float32 in both.
        spare: seconds. If the network itself needs less for a call of `sample`, "auto" prepares nothing, and the
            network computes this call and those that follow.

    Raises:
        UserError: an unknown name, a backend that is not installed or has no such precision, or bf16 on a processor
            without it.
    """
    if backend == "auto":
        backend = os.environ.get(VARIABLE) or "auto"
        if backend not in ("auto", *backends):
            raise UserError(f"The variable {VARIABLE} names no backend. {backends.unknown(backend)}")
    if precision not in PRECISIONS:
        raise UserError(f"There is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if backend != "auto":
        cls = backends[str(backend)]
        if missing := cls.missing():
            raise UserError(
                f"The backend {backend} needs {listed(missing)}, which is not installed; run "
                'pip install "ddim[fast]", or choose another backend.'
            )
        if precision != "auto" and precision not in cls.precisions:
            raise UserError(
                f"The backend {backend} computes in {', '.join(cls.precisions)} only; choose another backend for "
                f"{precision}."
            )
    if precision == "bf16" and choose_precision("auto", model.device) != "bf16":
        raise UserError("This processor has no bf16 arithmetic; leave out the precision, or choose fp32.")
    plain = backend == "torch" and precision != "bf16"
    model.server = None if plain else Serving(backend, precision, spare)
    return model


class Serving:
    """The backend of one model, see `serve`. `str` returns what computed the last call, e.g. "openvino bf16"."""

    def __init__(self, backend: str, precision: str, spare: float) -> None:
        self._asked = backend, precision, spare
        self._prepared: dict[int, _InParts | None] = {}  # by size of the batch; None is the network itself
        self._weights: Any = None
        self._lock = threading.Lock()
        self._last: str | _InParts = "torch fp32"

    def __str__(self) -> str:
        return self._last if isinstance(self._last, str) else self._last.name

    def __deepcopy__(self, memo: dict[int, Any]) -> "Serving":
        return Serving(*self._asked)

    def __reduce__(self) -> Any:
        return Serving, self._asked

    def network(self, model: Denoiser, batch: int, calls: int | None) -> Callable[..., Tensor]:
        """Return what computes the network for a call of `model.sample`.

        Args:
            model: the model, in eval mode.
            batch: the number of images in a call of the network.
            calls: the number of network calls to come; None is any number, and always worth the preparation.
        """
        with self._lock:
            autocast = torch.is_autocast_enabled(model.device.type)  # the caller's: it is the network's alone
            stamp = None if autocast else _stamp(model.network)
            if stamp is None or stamp != self._weights:
                self._prepared = {}
            size = (batch > 1) + (batch >= MANY)  # one image, several, and many
            if stamp is not None and size not in self._prepared:
                self._prepared[size] = None if self._is_short(model, batch, calls) else self._choose(model, batch)
                stamp = _stamp(model.network)  # a network may count its calls
            self._weights = stamp
            chosen = self._prepared.get(size)
            self._last = model.reference if chosen is None else chosen
            return model.network if chosen is None else chosen

    def _is_short(self, model: Denoiser, batch: int, calls: int | None) -> bool:
        """Return whether the network itself makes so many calls in less than `spare` seconds."""
        backend, _, spare = self._asked
        if backend != "auto" or spare <= 0 or calls is None:
            return False
        began = time.perf_counter()
        with torch.no_grad():
            model.network(*_source(model).inputs(batch))
        return (time.perf_counter() - began) * calls < spare

    def _choose(self, model: Denoiser, batch: int) -> "_InParts | None":
        backend, precision, _ = self._asked
        source = _source(model)
        if model.dtype != torch.float32:  # weights in another precision are served as they are
            return None
        if backend != "auto":
            precision = "fp32" if precision == "auto" else precision
            try:
                return _InParts(f"{backend} {precision}", source, batch, MANY)
            except Unfit as error:
                text = f"The backend {backend} cannot compute this network ({error}); torch computes it."
                warnings.warn(text, Notice, stacklevel=4)
                return None
        precisions = [precision]
        if precision == "auto":
            precisions = ["fp32", "bf16"] if choose_precision("auto", model.device) == "bf16" else ["fp32"]
        found = calibrate(source, candidates(model.device, precisions), batch)
        for candidate in found.ranked:
            with contextlib.suppress(Unfit):
                return _InParts(candidate, source, batch, found.part)
        return None


class _InParts:
    """A backend that computes large batches in equal parts, of at most `most` images.

    It is compared with the network at each new size of a part. If it fails, the network computes from then on.
    """

    def __init__(self, name: str, source: Source, batch: int, most: int) -> None:
        self.name, self._most, self._source = name, most, source
        backend, self._precision = name.rsplit(maxsplit=1)
        size = self._size(batch)
        self._backend: Callable[..., Tensor] = prepare(backend, self._precision, source, size)
        self._compared = {size}

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._backend is not self._source.network:
            try:
                return self._computed(inputs)
            except Exception as error:  # a backend may raise anything
                reason = first_line(error) or type(error).__name__
                text = f"The backend {self.name} failed ({reason}); torch computes from here on."
                warnings.warn(text, Notice, stacklevel=2)
                self.name, self._backend = "torch fp32", self._source.network
        output: Tensor = self._source.network(*inputs)
        return output

    def _computed(self, inputs: tuple[Tensor, ...]) -> Tensor:
        rows = len(inputs[0])
        size = self._size(rows)
        if size not in self._compared:
            check(self._backend, self._precision, self._source, size)
            self._compared.add(size)
        outputs = [self._backend(*part) for part in (in_parts(inputs, size) if size < rows else [inputs])]
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)[:rows]
        if output.shape != inputs[0].shape:
            raise Unfit(f"its output has the shape {tuple(output.shape)}, not {tuple(inputs[0].shape)}")
        return output

    def _size(self, rows: int) -> int:
        """Return the number of images in each of as few parts as possible."""
        parts = -(-rows // self._most)
        return -(-rows // parts)


def _source(model: Denoiser) -> Source:
    return Source(model.network, model.shape, model.classes, model.schedule.T)


def _stamp(network: nn.Module) -> list[Any] | None:
    """Return what changes when a weight is replaced, moved, converted or changed in place, or a module's attribute.

    PyTorch counts the changes of a tensor, but not those by way of `tensor.data`; the sums notice these. None is for a
    network that cannot be prepared: hooks look at its calls, or weights have no values in memory (lazy, sparse, meta).
    """
    modules, tensors = list(network.modules()), list(chain(network.parameters(), network.buffers()))
    if any(one._forward_hooks or one._forward_pre_hooks for one in modules):
        return None
    try:
        places = [(one.data_ptr(), one.dtype, one.device, 0 if one.is_inference() else one._version) for one in tensors]
        sums = [one.detach().sum(dtype=torch.promote_types(one.dtype, torch.float64)).item() for one in tensors]
    except (RuntimeError, ValueError):
        return None
    attributes = [
        (name, value if isinstance(value, bool | int | float | str) else id(value))
        for module in modules
        for name, value in vars(module).items()
        if name not in INTERNAL
    ]
    return [places, sums, [id(one) for one in modules], attributes]
