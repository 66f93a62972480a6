"""The best weights of a training: the average whose samples came closest to held-out images along the way.

Every so many updates, the average that training saves draws samples, and a `Validator` measures them. Weights whose
samples show copies of training images are not the best ones, however small their distance. What it measures is a line
of `metrics.jsonl`; the best averages are in `best/STEP.safetensors`. Both are on the disk, so a resumed run knows them.
Measuring draws no random number of the training, and changes no weight.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import append_line, as_table, read_tensors, write_bytes
from ddim.train import averages, checkpoints
from ddim.train.loop import Progress
from ddim.train.recipe import Plan

KIND = "best"  # the folder of these weights in a run
CALLS_OF_AN_UPDATE = 3  # of the network for each image: the gradient costs about two
TOOK = "validation_seconds"  # the entry of a line that says how long it took
SURE = 0.001  # probability without copying below which a measurement shows copies: there are dozens of them


class Validator(Protocol):
    """What measures the samples of a model; see `ddim.validation`."""

    metric: str  # name of the distance, which is smaller for better samples
    calls: int  # of the network that a measurement takes, each image counted

    def measure(self, model: Denoiser) -> dict[str, float]:
        """Return the entries of a line of metrics: the metric, and others."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return how it measures, plain data."""
        ...


def shows_copies(line: dict[str, Any]) -> bool:
    """Return whether more samples look like copies than chance explains, for a line that a `Validator` returned."""
    return bool(line.get("copies_p", 1.0) < SURE)


Validate = Callable[[Denoiser, Images, Images], Validator]
"""(model, training images, held-out images) -> validator, or a `UserError` if these images do not allow it."""


class Best:
    """The measurements of a run, and its best weights.

    Half of the plan's share `validate` is for the measurements along the way, half for those at the end. A network call
    for sampling counts as a third of one in an update, so the steps are the same on any machine. With a limit in
    minutes, a measurement is also left out while the clock says that the share is used up.

    Args:
        folder: the run.
        validator: what measures.
        plan: the plan of the training, whose `validate` is above 0.
    """

    def __init__(self, folder: Path, validator: Validator, plan: Plan) -> None:
        self.folder, self.validator, self.plan = folder, validator, plan
        updates = validator.calls / (CALLS_OF_AN_UPDATE * plan.batch_size)  # that take as long as a measurement
        self.every = math.ceil(2 * updates / plan.validate)
        """Updates from one measurement to the next."""
        self.widths: dict[averages.Width, float] = {}  # the distance of each other width, after the last update

    def due(self, progress: Progress) -> bool:
        """Return whether to measure after an update: after every so many, and after the last one."""
        if progress.fraction == 1:
            return progress.step >= self.every
        return progress.step % self.every == 0 and self._affordable(progress.seconds)

    def measure(self, progress: Progress) -> dict[str, float]:
        """Measure the average, write the line of metrics, keep the weights if they are the best, return the line."""
        values = self._measured(progress.average)
        before = self.step()
        line = {"step": progress.step, "epoch": round(progress.epoch, 3), **values}
        if before is None or self._rank(line) < self._rank(self.lines()[before]):
            tensors = {name: t.cpu().contiguous().clone() for name, t in progress.average.network.state_dict().items()}
            write_bytes(self._path(progress.step), to_bytes(tensors))
        append_line(self.folder / "metrics.jsonl", json.dumps(line))
        return line

    def _measured(self, model: Denoiser) -> dict[str, float]:
        began = time.monotonic()
        with torch.compiler.set_stance("force_eager"):  # compiling again for a few samples takes a minute
            values = self.validator.measure(model)
        return {**values, TOOK: round(time.monotonic() - began, 2)}

    def _affordable(self, seconds: float) -> bool:
        spent = sum(line.get(TOOK, 0.0) for line in self.lines().values())
        return self.plan.minutes is None or spent <= self.plan.validate * seconds

    def lines(self) -> dict[int, dict[str, float]]:
        """Return the lines of metrics with a finite distance, by step."""
        found: dict[int, dict[str, float]] = {}
        with suppress(OSError):
            for text in (self.folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    line = as_table(json.loads(text))
                    if math.isfinite(line[self.validator.metric]):
                        found[int(line["step"])] = line
        return found

    def step(self, latest: float = math.inf) -> int | None:
        """Return the best step up to `latest`, of those whose weights are kept.

        It has the smallest distance without copies; if all samples show copies, it is the first step.
        """
        kept, lines = set(checkpoints.steps(self.folder, KIND)), self.lines()
        steps = [step for step in lines if step in kept and step <= latest]
        return min(steps, key=lambda step: self._rank(lines[step]), default=None)

    def _rank(self, line: dict[str, Any]) -> tuple[bool, float, float]:
        """Return what orders lines of metrics, the best first."""
        copied, step = shows_copies(line), float(line["step"])
        return copied, step if copied else line[self.validator.metric], -step

    def try_widths(self, progress: Progress) -> None:
        """Measure averages of other widths after the last update, those nearest to the saved one first.

        The newest checkpoint of the run must be that of this step. At most as many widths are measured as the share of
        the plan allows, and none if the snapshots give none.
        """
        saved, spent = self.plan.ema[0], sum(line[TOOK] for line in self.lines().values())
        with suppress(UserError):
            possible = [one for one in averages.widths(self.folder) if one.error <= averages.LARGEST_ERROR]
            others = sorted((one for one in possible if one.width != saved), key=lambda one: abs(one.width - saved))
            for one in others[: progress.step // self.every - 1]:
                took = max(line[TOOK] for line in self.lines().values())
                if self.plan.minutes is not None and spent + took > self.plan.validate * progress.seconds:
                    return
                weights, _ = averages.rebuild(self.folder, one.width)
                values = self._measured(_with_weights(progress.average, weights))
                spent += values[TOOK]
                if not shows_copies(values):
                    self.widths[one] = values[self.validator.metric]

    def chosen(self, average: Denoiser) -> tuple[Denoiser, dict[str, Any]]:
        """Return the model to save for use, and entries of `config.json` about it.

        Until a later measurement is worse than an earlier one, it is `average`, the current one. The entry "average"
        names another one: its width, error and step.
        """
        widths = {f"{one.width:g}": distance for one, distance in self.widths.items()}
        about = {"validation": {**self.validator.describe(), "every": self.every, "widths": widths}}
        lines, best = self.lines(), self.step()
        if best is None:
            return average, about
        width = min(self.widths, key=lambda one: self.widths[one], default=None)
        distance = math.inf if shows_copies(lines[best]) else lines[best][self.validator.metric]
        if width is not None and self.widths[width] < distance:
            weights, _ = averages.rebuild(self.folder, width.width)
            return _with_weights(average, weights), {**about, "average": {**width._asdict(), "step": max(lines)}}
        if best < max(lines):
            with suppress(OSError, SafetensorError, RuntimeError):  # damaged: the current average
                model = _with_weights(average, read_tensors(self._path(best)))
                return model, {**about, "average": {"width": self.plan.ema[0], "error": 0.0, "step": best}}
        return average, about

    def prune(self) -> None:
        """Remove the weights that no checkpoint needs: each may be resumed from, and has its best step."""
        needed = {self.step(latest) for latest in [*checkpoints.steps(self.folder), math.inf]}
        checkpoints.remove(self.folder, set(checkpoints.steps(self.folder, KIND)) - needed, KIND)

    def _path(self, step: int) -> Path:
        return checkpoints.path_of(self.folder, step, KIND)


def _with_weights(like: Denoiser, weights: dict[str, Tensor]) -> Denoiser:
    """Return a copy of a model with other weights."""
    network = copy.deepcopy(like.network)
    network.load_state_dict(weights)
    return like.with_network(network)
