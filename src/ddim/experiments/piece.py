"""What an experiment is: a function that makes it, what it leaves, and what it would cost whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.experiments.cost import forward_seconds


@dataclass(frozen=True)
class Setup:
    """What experiments are made on.

    Attributes:
        folder: of the run.
        model: of that run, in eval mode, on the device to use.
        train, test: the images that it learnt from and those held out; None where a piece needs none.
    """

    folder: Path
    model: Denoiser
    train: Images | None = None
    test: Images | None = None

    @property
    def learnt(self) -> Images:
        """The images that it learnt from, for a piece that needs them."""
        assert self.train is not None
        return self.train

    @property
    def held_out(self) -> Images:
        """Those held out, likewise."""
        assert self.test is not None
        return self.test


@dataclass(frozen=True)
class Piece:
    """One experiment.

    Attributes:
        make: (setup, seconds or None) -> the facts for `results/<name>.json`; samples it saves itself.
        calls: how often the network is called on a single image if nothing is cut.
        files: what it leaves in `samples/`, by name.
        share: of the minutes, in proportion to the shares of the other pieces.
        images: whether it needs the data set.
    """

    make: Callable[[Setup, float | None], dict[str, Any]]
    calls: Callable[[Denoiser], float]
    files: tuple[str, ...] = ()
    share: float = 0.0
    images: bool = True


def seconds_whole(pieces: dict[str, Piece], model: Denoiser) -> dict[str, float]:
    """Seconds that each piece takes whole on this machine, from a measured call of the network."""
    call = forward_seconds(model, 64, repeats=3) / 64
    return {name: piece.calls(model) * call for name, piece in pieces.items()}
