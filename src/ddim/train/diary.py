"""What a run writes while it trains: checkpoints, metrics, samples along the way, and the bar on the screen."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from tqdm import tqdm

from ddim import environment, model_io
from ddim.data import to_uint8
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import append_line, sweep, write_bytes, write_text
from ddim.pictures import write_grid
from ddim.train import history
from ddim.train.engine import Engine
from ddim.train.guards import MEMORY, Breakdown, duration, is_memory
from ddim.train.loop import Progress
from ddim.train.recipe import Recipe
from ddim.train.state import State
from ddim.train.validation import losses_by_level

LINES = 20  # of metrics, at least, however short the run
UPDATES = 50  # from one line to the next, at least, however short the epochs
COUNT, STEPS = 16, 20  # samples along the way from each set of weights, and their steps
SHARE = 0.03  # of the time, at most, goes into them
BACK = 4  # times that a training which breaks down goes back
LONG = 6 * 3600.0  # seconds from which the length of a run is said in words
SOON = 20.0  # seconds after which it can be estimated


class Diary:
    """The records of one run. Every process keeps one, and the main process's writes.

    A context: on entering, a run that begins is given its files, and one that goes on loses the records of
    updates that will be made again.

    Attributes:
        saved: `time.monotonic()` of the last checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        model: Denoiser,
        images: Images,
        held_out: Images,
        data: dict[str, Any],
        state: State,
        engine: Engine,
    ) -> None:
        self.folder, self.recipe, self.model, self.state, self.engine = folder, recipe, model, state, engine
        self.images, self.held_out, self.data = images, held_out, data
        self.average = model.with_network(state.averages[0].network)
        self.sampled, self.cost = time.monotonic(), 0.0  # when samples were drawn last, and how long it took
        self.estimated = False

    def __enter__(self) -> "Diary":
        if self.engine.main:
            self._sweep()
            if self.state.step == 0:
                self._begin()
            else:
                self._drop_later()
        self.saved = time.monotonic()
        plan = self.recipe.plan
        self.bar = tqdm(
            total=plan.total_steps(len(self.images)),
            initial=self.state.step,
            desc=f"training on {self.images.name}",
            unit="step",
            disable=None if self.engine.main else True,
        )
        self.engine.track("tracked", _flat(asdict(self.recipe)))
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.engine.close()

    def note(self, now: Progress) -> None:
        """Record an update: move the bar; a line of metrics and samples when they are due."""
        self._show(now)
        due = lines_due(now.step, now.epoch, now.fraction)
        self.state.lines = min(self.state.lines, due)  # a run that goes on beyond its end has fewer behind it
        if due > self.state.lines or now.fraction == 1:
            if self.engine.main:
                try:
                    self._line(now)
                    self._sample(now)
                except UserError as error:
                    self.say(f"ddim: {error} Training goes on.")
                except RuntimeError as error:
                    if not is_memory(error):
                        raise
                    self.say("ddim: Too little memory to evaluate at this step. Training goes on.")
            self.state.lines, self.state.losses = due, (0.0, 0)

    def save(self, finished: bool, patient: bool = False) -> None:
        """Write the averaged weights for use, then a checkpoint: where that is of the last step, so are they.

        Args:
            finished: whether training has come to its end.
            patient: a full disk is then a warning, and the next save tries again.

        Raises:
            UserError: the folder cannot be written. The checkpoints before this one are whole.
        """
        self.saved = time.monotonic()
        if not self.engine.main:
            return
        try:
            self._save_weights(finished)
            history.save(self.state, self.folder)
        except UserError as error:
            if not patient:
                raise
            self.say(f"ddim: {error} Training goes on; the last whole checkpoint stays.")

    def go_back(self, breakdown: Breakdown) -> bool:
        """Bring the state to a checkpoint from well before a breakdown, with half the learning rate from then on.

        Returns:
            False if there is none, or the learning rate has been halved `BACK` times before.
        """
        rate = self.state.rate / 2
        if rate < 0.5**BACK or history.resume(self.state, self.folder, before=breakdown.step - MEMORY) is None:
            return False
        self.state.rate = rate
        self.engine.sum(0.0)  # all processes have read it before the first removes what came after
        if self.engine.main:
            self._drop_later()
        self.bar.n = self.bar.last_print_n = self.state.step
        self.say(
            f"ddim: Training broke down at step {breakdown.step}: {breakdown.cause}. It goes on from step "
            f"{self.state.step} with a learning rate of {rate * self.recipe.plan.learning_rate:g}."
        )
        return True

    def _save_weights(self, finished: bool) -> None:
        about = {"recipe": asdict(self.recipe), "data": self.data, "finished": finished}
        model_io.save(self.average, self.folder, **about)

    def _begin(self) -> None:
        stale = [self.folder / "config.json", self.folder / "model.safetensors"]
        for path in [*stale, *self.folder.glob("samples/step-*")]:
            path.unlink(missing_ok=True)
        history.clear(self.folder)
        write_text(self.folder / "metrics.jsonl", "")
        about = {**environment.describe(), "device": str(self.engine.device), "processes": self.engine.processes}
        write_text(self.folder / "environment.json", json.dumps(about, indent=2) + "\n")
        preview = to_uint8(self.images.batch(torch.arange(min(100, len(self.images))))[0])
        write_bytes(self.folder / "samples" / "data.safetensors", to_bytes({"images": preview}))
        history.save(self.state, self.folder)  # before there is a config: where that is, a run can go on
        self._save_weights(finished=False)  # and be sampled and reported

    def _drop_later(self) -> None:
        """Without the records of updates that will be made again."""
        history.clear(self.folder, after=self.state.step)  # damaged, or training would go on from there
        for sample in self.folder.glob("samples/step-*"):
            if sample.stem[5:].isdecimal() and int(sample.stem[5:]) > self.state.step:
                sample.unlink(missing_ok=True)
        path = self.folder / "metrics.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        earlier = "".join(f"{line}\n" for line in text.splitlines() if _step(line) <= self.state.step)
        if earlier != text:
            write_text(path, earlier)

    def _sweep(self) -> None:
        """Without what a killed run was writing."""
        sweep(self.folder, "config", "model", "metrics", "environment")
        sweep(self.folder / "checkpoints", "*")
        sweep(self.folder / "samples", "data", "step-*")

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        if self.engine.main:
            self.bar.write(sentence, file=sys.stderr)

    def _show(self, now: Progress) -> None:
        self.bar.total = round(now.step / now.fraction)  # where the clock ends training, an estimate that settles
        rate = now.step * self.recipe.plan.batch_size / now.seconds
        words = {"loss": f"{now.loss:.4f}", "epoch": f"{now.epoch:.1f}", "images/s": f"{rate:.0f}"}
        self.bar.set_postfix(words, refresh=False)
        self.bar.update()
        if now.seconds > SOON and not self.estimated:
            self.estimated = True
            left = now.seconds / now.fraction - now.seconds
            if left > LONG:
                self.say(
                    f"At {rate:.0f} images/s this takes {duration(left)} more. Ctrl-C ends it when you like: what "
                    "is learnt stays, and --resume goes on. --minutes sets another end."
                )

    def _line(self, now: Progress) -> None:
        held_out, train = (losses_by_level(now.average, images) for images in (self.held_out, self.images))
        total, count = self.state.losses
        numbers = {
            "step": now.step,
            "epoch": round(now.epoch, 3),
            "loss": total / count,  # of the latest weights, weighted as the plan says, since the line before
            "held_out": sum(held_out) / len(held_out),  # of the averaged weights, unweighted, like the next
            "train": sum(train) / len(train),
            "images_per_second": round(now.step * self.recipe.plan.batch_size / now.seconds, 1),
            "seconds": round(now.seconds, 2),
        }
        levels = {"held_out_by_level": held_out, "train_by_level": train}
        append_line(self.folder / "metrics.jsonl", json.dumps({**numbers, **levels}))
        self.engine.log(numbers, now.step)

    def _sample(self, now: Progress) -> None:
        """The same images from the averaged and from the latest weights, unless that took too long before."""
        if now.fraction < 1 and time.monotonic() - self.sampled < self.cost / SHARE:
            return
        began = time.monotonic()
        with torch.compiler.set_stance("force_eager"):  # to compile again for a few samples takes a minute
            drawn = {
                name: to_uint8(model.sample(COUNT, steps=min(STEPS, model.schedule.T), progress=False))
                for name, model in (("averaged", self.average), ("latest", self.model))
            }
        path = self.folder / "samples" / f"step-{now.step:08d}.png"
        write_bytes(path.with_suffix(".safetensors"), to_bytes(drawn))
        write_grid(torch.cat([drawn["averaged"], drawn["latest"]]), path, columns=COUNT)
        self.sampled = time.monotonic()
        self.cost = self.sampled - began


def lines_due(step: int, epoch: float, fraction: float) -> int:
    """How many lines of metrics there should be: one for each epoch of 50 updates or more, 20 in all at least."""
    return int(max(min(epoch, step / UPDATES), LINES * fraction))


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, of a run that was killed while it wrote


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as trackers take it: one table of numbers and words."""
    table = {**recipe, **recipe["plan"]}
    del table["plan"]
    return {name: value if isinstance(value, int | float | str) else str(value) for name, value in table.items()}
