"""What a backend is, the registry of backends, and the functions that several of them use."""

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddim.contract import NULL
from ddim.processors import available_cores
from ddim.registry import Registry


@dataclass(frozen=True, eq=False)
class Source:
    """The network to prepare.

    Attributes:
        network: the module, in eval mode.
        shape, classes: (C, H, W) of the images, and the number of classes or None, as in `ddim.Denoiser`.
        T: the largest time.
    """

    network: nn.Module
    shape: tuple[int, ...]
    classes: int | None
    T: float

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters(), torch.empty(0)).device

    @property
    def input_names(self) -> list[str]:
        """Names of the network's arguments: x, t, and label for a model with classes."""
        return ["x", "t"] if self.classes is None else ["x", "t", "label"]

    def inputs(self, batch: int, seed: int = 0, time: float | None = None) -> tuple[Tensor, ...]:
        """Return random arguments of the network for a batch: noise, times in (0, T] or all at `time`, and labels."""
        with torch.device("cpu"):  # whatever default the program has set; so are the types
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(batch, *self.shape, generator=generator, dtype=torch.float32)
            t = self.T * (1 - torch.rand(batch, generator=generator, dtype=torch.float32))
            labels = () if self.classes is None else (torch.randint(NULL, self.classes, (batch,), generator=generator),)
        return tuple(one.to(self.device) for one in (x, t if time is None else torch.full_like(t, time), *labels))

    @cached_property
    def architecture(self) -> str:
        """SHA-256 of what determines the cost of a call: the network without its weights' values."""
        shapes = [(name, tuple(one.shape), str(one.dtype)) for name, one in self._state]
        config = getattr(self.network, "config", None)
        return digest(type(self.network).__qualname__, config, self.shape, self.classes, shapes)

    @cached_property
    def key(self) -> str:
        """SHA-256 of the network with its weights."""
        sha = hashlib.sha256(self.architecture.encode())
        for _, tensor in self._state:
            sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return sha.hexdigest()

    @property
    def _state(self) -> list[tuple[str, Any]]:
        """The weights and buffers by name. A module's extra state may be any object, and is left out."""
        return [(name, one) for name, one in self.network.state_dict().items() if isinstance(one, Tensor)]


class Backend(ABC):
    """A network prepared to compute fast. It is called as the network is: `backend(x, t)` or `backend(x, t, label)`.

    Args:
        source: the network.
        precision: "fp32" or "bf16"; weights, inputs and outputs are float32 in both.
        batch: the number of images of most calls; others are allowed.
        folder: what `make` wrote, for a backend with a `key`, otherwise None.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that must be installed; they come with `pip install "ddim[fast]"`."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")

    @abstractmethod
    def __init__(self, source: Source, precision: str, batch: int, folder: Path | None) -> None: ...

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the network's output, (B, C, H, W), for x (B, C, H, W), t (B,) and, with classes, label (B,)."""

    @classmethod
    def key(cls, source: Source, precision: str, batch: int) -> str | None:
        """Return a digest of all that the files of `make` depend on; None for a backend without files."""
        return None

    @classmethod
    def make(cls, source: Source, precision: str, batch: int, folder: Path) -> None:
        """Write into an empty folder what `__init__` reads.

        Trace the network with other inputs than `source.inputs(...)` of seed 0: those check the result, and so show an
        input that was taken for a constant.
        """
        raise NotImplementedError(f"{cls.__name__} has a key, so it must have a method `make`")

    @classmethod
    def missing(cls) -> list[str]:
        """Return the packages of `needs` that are not installed."""
        return [package for package in cls.needs if not _installed(package)]


backends: Registry[type[Backend]] = Registry("backend")


def register(name: str) -> Callable[[type[Backend]], type[Backend]]:
    """Register a `Backend`, so that `ddim.load(..., backend=name)` and `--backend` know it.

    A backend that had the name is replaced.
    """
    return backends.register(name)


def names() -> list[str]:
    """Return the names of the backends: "torch", the reference, first."""
    return ["torch", *(name for name in backends if name != "torch")]


def in_parts(inputs: Sequence[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    """Return a network's arguments, (B, ...) each, in parts of `size` images. The last image fills up the last part."""
    rows = len(inputs[0])
    missing = -rows % size
    whole = [torch.cat([one, one[-1:].expand(missing, *one.shape[1:])]) if missing else one for one in inputs]
    return [tuple(one[start : start + size] for one in whole) for start in range(0, rows, size)]


def threads() -> int:
    """Return the number of threads to compute with: PyTorch's, but at most the cores that this process may use."""
    return min(torch.get_num_threads(), available_cores())


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # its parent is absent, something forbids the import, or half of it is there
        return False


def digest(*parts: object) -> str:
    """Return the SHA-256 of the parts' text."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
