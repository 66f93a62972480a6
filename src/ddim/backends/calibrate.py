"""Find the fastest backend on this machine: a measurement of some seconds, kept in the cache folder."""

import contextlib
import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from ddim import __version__, environment
from ddim.backends import kept
from ddim.backends.base import Backend, Source, backends, digest, threads
from ddim.backends.prepare import Unfit, prepare
from ddim.environment import version
from ddim.errors import Notice, UserError
from ddim.files import read_table, write_text
from ddim.progress import bar
from ddim.text import first_line

ROUNDS, SECONDS = 5, 1.0  # rounds of one call of each candidate; none begins after these seconds
FEW, MANY = 16, 64  # images in a call: backends are compared with `FEW`, and the best is tried with `MANY`
ROUNDING = 1.1  # bf16 must be faster than fp32 by this factor to be worth its rounding


class Calibration(NamedTuple):
    """What was measured.

    Attributes:
        seconds: of the fastest call of the network, by candidate, e.g. "openvino bf16".
        unfit: why the other candidates cannot stand for the network, by candidate.
        part: the number of images in a call that takes the least time for each image: 1, `FEW` or `MANY`.
    """

    seconds: dict[str, float]
    unfit: dict[str, str]
    part: int

    @property
    def ranked(self) -> list[str]:
        """The candidates, the best first."""
        return sorted(self.seconds, key=lambda one: self.seconds[one] * (ROUNDING if one.endswith("bf16") else 1))


def candidates(device: torch.device, precisions: list[str]) -> list[str]:
    """Return the backends to compare, each with a precision, e.g. "openvino bf16".

    "compiled" takes a minute to prepare, so it must be asked for. "onnx" exports for some seconds and has no bf16, so
    it is compared only where "openvino" is not installed.
    """
    if device.type != "cpu":
        return [f"torch {precision}" for precision in precisions]
    left_out = {"compiled"} if backends["openvino"].missing() else {"compiled", "onnx"}
    names = [name for name, cls in backends.items() if name not in left_out and not cls.missing()]
    return [f"{name} {one}" for name in names for one in precisions if one in backends[name].precisions]


def calibrate(source: Source, named: list[str], batch: int) -> Calibration:
    """Return the time of each candidate for networks of this architecture, measured earlier or now.

    Args:
        source: the network.
        named: the candidates.
        batch: the number of images in a call; one, several, and `MANY` or more have their own measurements.
    """
    few = min(batch, FEW)

    def path(network: str) -> Path:
        key = digest(network, named, few > 1, batch >= MANY, *_machine(source.device))
        return kept.folder() / "calibrations" / f"{key[:32]}.json"

    for network in (source.architecture, source.key):  # the second where a candidate is unfit: weights may be to blame
        with contextlib.suppress(UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
            return _read(path(network), named)  # else it is absent or damaged, or there is no cache folder
    prepared: dict[str, Backend] = {}
    unfit: dict[str, str] = {}
    for candidate in bar(named, desc="comparing backends", unit="backend", leave=False):
        name, precision = candidate.rsplit(maxsplit=1)
        try:
            prepared[candidate] = prepare(name, precision, source, few)
        except Unfit as error:
            unfit[candidate] = str(error)
    seconds = _fastest_calls(prepared, source, few, unfit)
    if unfit and seconds:
        text = "; ".join(f"{candidate}: {reason}" for candidate, reason in unfit.items())
        warnings.warn(f"Some backends cannot compute this network ({text}); another one does.", Notice, stacklevel=6)
    found = Calibration(seconds, unfit, FEW if batch > 1 else 1)
    if batch >= MANY and seconds:
        best = found.ranked[0]
        at_once = _fastest_calls({best: prepared[best]}, source, MANY, {}).get(best, float("inf"))
        found = found._replace(part=MANY if at_once / MANY < seconds[best] / few else few)
    with contextlib.suppress(UserError):
        write_text(path(source.key if unfit else source.architecture), json.dumps(found._asdict(), indent=2))
    return found


def _fastest_calls(prepared: dict[str, Backend], source: Source, batch: int, unfit: dict[str, str]) -> dict[str, float]:
    """Return the seconds of the fastest call of each backend; other programs only slow a call down.

    Those that fail are added to `unfit`.
    """
    inputs, began = source.inputs(batch), time.perf_counter()
    fastest: dict[str, float] = {}
    with torch.no_grad():
        for at in range(-1, ROUNDS):  # the first round is not counted
            for name in [name for name in prepared if name not in unfit]:
                start = time.perf_counter()
                try:
                    prepared[name](*inputs).cpu()  # the copy waits for the device
                except Exception as error:  # a backend may raise anything
                    unfit[name] = first_line(error) or type(error).__name__
                    fastest.pop(name, None)
                    continue
                if at >= 0:
                    fastest[name] = min(time.perf_counter() - start, fastest.get(name, float("inf")))
            if at >= 0 and time.perf_counter() - began > SECONDS:
                break
    return fastest


def _machine(device: torch.device) -> list[object]:
    packages = sorted({package for cls in backends.values() for package in cls.needs})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else environment.processor()
    return [device.type, name, threads(), __version__, torch.__version__, *map(version, packages)]


def _read(path: Path, named: list[str]) -> Calibration:
    table = read_table(path)
    seconds = {str(candidate): float(value) for candidate, value in table["seconds"].items()}
    unfit = {str(candidate): str(value) for candidate, value in table["unfit"].items()}
    if {*seconds, *unfit} != set(named) or table["part"] not in range(1, MANY + 1):
        raise ValueError("it is of other candidates")
    return Calibration(seconds, unfit, int(table["part"]))
