"""What a run writes while it trains: checkpoints, metrics, and samples on the way."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from ddim import environment, model_io
from ddim.data import to_uint8
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import append_line, sweep, write_bytes, write_text
from ddim.pictures import visible, write_grid
from ddim.text import counted, plural
from ddim.train import averages, best, checkpoints
from ddim.train.best import Best, Validate
from ddim.train.distributed import Distributed
from ddim.train.guards import WINDOW, Breakdown, is_out_of_memory
from ddim.train.loop import Progress
from ddim.train.objective import Objective
from ddim.train.recipe import Recipe
from ddim.train.screen import Screen
from ddim.train.state import State

MIN_LINES = 20  # of metrics, however short the run
MIN_UPDATES = 50  # from one line to the next, however short the epochs
SAMPLES, SAMPLE_STEPS = 16, 20  # images drawn on the way from each set of weights, and the steps for them
SAMPLING_SHARE = 0.03  # of the time, at most, is spent on them
LINE_SHARE = 0.01  # of a limit in minutes, at most, is spent on a line of metrics
KINDS = (checkpoints.KIND, averages.KIND, best.KIND)  # folders of numbered files of weights
MAX_RECOVERIES = 4  # times that a training which breaks down continues from an earlier checkpoint


@dataclass(eq=False)
class RunLogger:
    """The files of one run. Every process has one; only the main process's writes.

    A context. On entering, a resumed run loses the records of updates that will be made again. A new run gets its
    files with its first record: a first update that fails leaves the folder as it was. Attribute `saved` is
    `time.monotonic()` of the last checkpoint.
    """

    folder: Path
    recipe: Recipe
    model: Denoiser
    images: Images
    held_out: Images
    data: dict[str, Any]  # see `ddim.train.run.identity`
    state: State
    distributed: Distributed
    objective: Objective
    about: dict[str, Any]  # further entries of `config.json`
    command: str  # that continues the run: ddim COMMAND RUN --resume
    validate: Validate | None = None  # what makes the validator of `ddim.train.best`

    def __post_init__(self) -> None:
        self.average = self.model.with_network(self.state.averages[0].network)
        self.sampled, self.sampling_time = time.monotonic(), 0.0  # of the last samples: when, and how long it took
        self.start = b""  # the checkpoint of step 0, until it is written
        self.image_seconds = 0.0  # of a call of the network, for each image, in the last line of metrics
        self.best: Best | None = None  # in the main process, if the plan asks for it and the images allow it

    def __enter__(self) -> "RunLogger":
        if self.distributed.main:
            sweep(self.folder, "config", "model", "metrics", "environment")  # left by a run that was killed
            for kind in KINDS:
                sweep(self.folder / kind, "*")
            sweep(self.folder / "samples", "data", "step-*")
            if self.state.step == 0:
                self.start = checkpoints.pack(self.state)
            else:
                self._drop_later_records()
        self.saved = time.monotonic()
        step = self.state.step
        self.screen = Screen(
            self.folder,
            self.recipe,
            self.model,
            self.images,
            step,
            self.distributed,
            self.command,
            self.objective.slow,
        )
        share = self.recipe.plan.validate
        if self.validate is not None and share and self.distributed.main:
            try:
                validator = self.validate(self.model, self.images, self.held_out)
                self.best = Best(self.folder, validator, self.recipe.plan)
            except UserError as error:
                self.screen.print(f"ddim: Training measures no samples on the way: {error}")
        fields = {**vars(self.recipe), **vars(self.recipe.plan)}
        del fields["plan"]
        tracked = {name: v if isinstance(v, int | float | str) else str(v) for name, v in fields.items()}
        self.distributed.start_trackers("tracked", tracked)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.screen.close(saved=error is None)
        self.distributed.close()

    def record(self, progress: Progress) -> None:
        """Record an update: move the bar; write a line of metrics and samples when they are due."""
        if self.start:
            self._begin()
        self.screen.show(progress)
        if self.distributed.main and averages.due(progress.step, self.recipe.plan.snapshots):
            try:
                averages.save(self.state, self.folder, self.recipe.plan.snapshots)
            except UserError as error:
                self.screen.print(f"ddim: {error} Training continues without a snapshot of this step.")
        if self.best is not None and self.best.due(progress):
            with self._tolerant():
                self._measure(self.best, progress)
        due = lines_due(progress.step, progress.epoch, progress.fraction)
        self.state.lines = min(self.state.lines, due)  # fewer are due in a run that continues beyond its first end
        if due > self.state.lines or progress.fraction == 1:
            if self.distributed.main:
                with self._tolerant():
                    self._write_line(progress)
                    self._write_samples(progress)
            self.state.lines, self.state.losses = due, (0.0, 0)

    def save(self, finished: bool, tolerant: bool = False) -> None:
        """Write the averaged weights, then a checkpoint: the weights are at least as new as the checkpoint.

        Args:
            finished: whether training has reached its end.
            tolerant: a full disk is then a warning, and the next save tries again.

        Raises:
            UserError: the folder cannot be written. The earlier checkpoints are whole.
        """
        self.saved = time.monotonic()
        if not self.distributed.main:
            return
        try:
            self._save_weights(finished)
            checkpoints.save(self.state, self.folder)
            if self.best is not None:
                self.best.prune()
        except UserError as error:
            if not tolerant:
                raise
            self.screen.print(f"ddim: {error} Training continues; the last whole checkpoint is kept.")

    def choose(self, progress: Progress) -> None:
        """After the last update, and its `save`: measure other widths of the average, and save the best model."""
        if self.best is None or self.best.step() is None:
            return
        with self._tolerant():
            self.best.try_widths(progress)
        about = self._save_weights(finished=True)
        chosen = about.get("average", {"width": self.recipe.plan.ema[0], "step": progress.step})
        measured = len(self.best.lines()) + len(self.best.widths)
        self.screen.print(
            f"ddim: The model is the average of width {chosen['width']:g} after {chosen['step']:,} updates. Of "
            f"{counted(measured, 'average')} that {plural(str(measured), 'was', 'were')} measured, its samples are the "
            "closest to the held-out images."
        )

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Within this context, a full disk or too little memory is a warning."""
        try:
            yield
        except UserError as error:
            self.screen.print(f"ddim: {error} Training continues.")
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.screen.print("ddim: Too little memory to evaluate at this step. Training continues.")

    def recover(self, breakdown: Breakdown) -> bool:
        """Set the state to a checkpoint from well before a breakdown, and halve the learning rate from then on.

        Return False if there is no such checkpoint, or the rate has been halved `MAX_RECOVERIES` times.
        """
        factor = self.state.rate / 2
        before = breakdown.step - WINDOW
        if factor < 0.5**MAX_RECOVERIES or checkpoints.resume(self.state, self.folder, before=before) is None:
            return False
        self.state.rate = factor
        self.distributed.sum(0.0)  # all processes have read it before the main one removes later checkpoints
        if self.distributed.main:
            self._drop_later_records()
        self.screen.print(
            f"ddim: Training broke down at step {breakdown.step}: {breakdown.cause}. It continues from step "
            f"{self.state.step} with a learning rate of {factor * self.recipe.plan.learning_rate:g}."
        )
        return True

    def _save_weights(self, finished: bool) -> dict[str, Any]:
        """Write the model, and return what its config says of the weights."""
        kept: dict[str, Any] = {}
        with contextlib.suppress(UserError, KeyError):  # presets of before; `Denoiser.preset` names the stale ones
            kept = {"presets": model_io.read_config(self.folder)["presets"]}
        about = {**kept, **self.about, "recipe": asdict(self.recipe), "data": self.data, "finished": finished}
        model, of_weights = (self.average, {}) if self.best is None else self.best.chosen(self.average)
        model_io.save(model, self.folder, **about, **of_weights)
        return of_weights

    def _begin(self) -> None:
        stale = [self.folder / "config.json", self.folder / "model.safetensors"]
        for path in [*stale, *self.folder.glob("samples/step-*")]:
            path.unlink(missing_ok=True)
        for kind in KINDS:
            checkpoints.clear(self.folder, kind=kind)
        write_text(self.folder / "metrics.jsonl", "")
        device, processes = str(self.distributed.device), self.distributed.processes
        threads = torch.get_num_threads()
        machine = {**environment.describe(), "device": device, "processes": processes, "threads": threads}
        write_text(self.folder / "environment.json", json.dumps(machine, indent=2) + "\n")
        preview = to_uint8(self.images.batch(torch.arange(min(100, len(self.images))))[0])
        write_bytes(self.folder / "samples" / "data.safetensors", to_bytes({"images": preview}))
        checkpoints.write(self.start, self.folder, 0)  # before the config: a folder with a config can be resumed
        self._save_weights(finished=False)  # and sampled and reported
        self.start = b""

    def _drop_later_records(self) -> None:
        """Remove the records of updates that will be made again."""
        for kind in KINDS:  # later checkpoints are damaged, else training had resumed from them
            checkpoints.clear(self.folder, self.state.step, kind)
        for sample in self.folder.glob("samples/step-*"):
            if sample.stem[5:].isdecimal() and int(sample.stem[5:]) > self.state.step:
                sample.unlink(missing_ok=True)
        path = self.folder / "metrics.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        earlier = "".join(f"{line}\n" for line in text.splitlines() if _step(line) <= self.state.step)
        if earlier != text:
            write_text(path, earlier)

    def _write_line(self, progress: Progress) -> None:
        affordable = self._limit(LINE_SHARE) / max(self._seconds_per_image(progress), 1e-9)
        began = time.monotonic()
        measured = self.objective.measure(progress.average, self.held_out, affordable)
        self.image_seconds = (time.monotonic() - began) / measured.calls
        total, count = self.state.losses
        metrics = {
            "step": progress.step,
            "epoch": round(progress.epoch, 3),
            "loss": total / count,  # of the latest weights, weighted as in the plan, since the line before
            **{name: value for name, value in measured.values.items() if not isinstance(value, list)},
            "images_per_second": round(progress.step * self.recipe.plan.batch_size / progress.seconds, 1),
            "seconds": round(progress.seconds, 2),
        }
        lists = {name: value for name, value in measured.values.items() if isinstance(value, list)}
        append_line(self.folder / "metrics.jsonl", json.dumps({**metrics, **lists}))
        self.distributed.log(metrics, progress.step)

    def _measure(self, best: Best, progress: Progress) -> None:
        """Write a line of metrics with the distance of samples to held-out images; the first time, say so."""
        first = not best.lines()
        line = best.measure(progress)
        self.distributed.log({name: value for name, value in line.items() if name != "step"}, progress.step)
        if first:
            self.screen.print(
                f"ddim: The distance of samples to held-out images is measured every {best.every:,} updates, in at "
                f"most about {self.recipe.plan.validate:.0%} of the time; the model will be the best of these averages."
            )

    def _write_samples(self, progress: Progress) -> None:
        """Draw the same images from the averaged and from the latest weights, unless that takes too long."""
        own = self.model.sampling.times
        steps = max(map(len, own)) if own else min(SAMPLE_STEPS, self.model.schedule.N)
        if progress.fraction < 1 and time.monotonic() - self.sampled < self.sampling_time / SAMPLING_SHARE:
            return
        if 2 * SAMPLES * steps * self._seconds_per_image(progress) > self._limit(SAMPLING_SHARE):
            return
        began = time.monotonic()
        with torch.compiler.set_stance("force_eager"):  # compiling again for a few samples takes a minute
            samples = {
                name: to_uint8(model.sample(SAMPLES, steps=steps, progress=False))
                for name, model in (("averaged", self.average), ("latest", self.model))
            }
        path = self.folder / "samples" / f"step-{progress.step:08d}.png"
        write_bytes(path.with_suffix(".safetensors"), to_bytes(samples))
        write_grid(visible(torch.cat([samples["averaged"], samples["latest"]])), path, columns=SAMPLES)
        self.sampled = time.monotonic()
        self.sampling_time = self.sampled - began

    def _limit(self, share: float) -> float:
        """Return a share of the plan's limit in minutes, in seconds; infinity without one."""
        return share * 60 * (self.recipe.plan.minutes or math.inf)

    def _seconds_per_image(self, progress: Progress) -> float:
        """Return how long a call of the network takes for each image; before it is measured, a third of an update."""
        update = progress.seconds / (progress.step * self.recipe.plan.batch_size)
        return self.image_seconds or self.distributed.processes * update / 3


def lines_due(step: int, epoch: float, fraction: float) -> int:
    """Return how many lines of metrics are due: one for each epoch of 50 updates or more, at least 20 in all."""
    return int(max(min(epoch, step / MIN_UPDATES), MIN_LINES * fraction))


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, of a run that was killed while it wrote
