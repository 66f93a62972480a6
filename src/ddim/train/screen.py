"""What a training shows: what is trained, a bar, how long it takes, and in the end how to continue it."""

import math
import shlex
import sys
import warnings
from pathlib import Path

from ddim import nets
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice
from ddim.progress import bar
from ddim.text import dimensions, duration
from ddim.train.distributed import Distributed
from ddim.train.loop import Progress
from ddim.train.recipe import Recipe

ESTIMATE_AFTER = 2.0  # seconds of training, after its first update, before its length is estimated
SHORT, LONG = 20.0, 6 * 3600.0  # seconds left from which the length is shown, and advice with it
FEW = 500  # updates: a training that a time limit ends earlier has learnt little


class Screen:
    """The bar of a run, and the sentences above it. Those of other processes than the main one show nothing.

    Args:
        folder: the run folder.
        recipe, model, images: what is trained.
        step: the updates made before.
        distributed: the processes that train together.
        command: that continues the run, `ddim COMMAND RUN --resume`.
        slow: number of first updates that take longer than later ones.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        model: Denoiser,
        images: Images,
        step: int,
        distributed: Distributed,
        command: str = "train",
        slow: int = 1,
    ) -> None:
        self.folder, self.recipe, self.distributed, self.command = folder, recipe, distributed, command
        self.typical = step + slow  # the first update that says how long the others take
        self.side, self.total = max(images.shape[1:]), recipe.plan.total_steps(len(images))
        self.first: Progress | None = None  # from which on the time of an update is measured
        self.last: Progress | None = None
        self.estimated = False
        self.bar = bar(
            total=self.total,
            initial=step,
            desc="training",
            unit="step",
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",  # 80 columns are enough
            disable=not distributed.main,
        )
        self.shown = not self.bar.disable  # which its end sets, too
        plan = recipe.plan
        weights = sum(weight.numel() for weight in model.network.parameters())
        ends = [f"{self.total:,} updates"] if self.total else []
        ends += [f"{plan.minutes:g} minutes"] if plan.minutes else []
        self.print(
            f"ddim: {f'Continuing after {step:,} updates with' if step else 'Training'} {recipe.network} {recipe.size} "
            f"({weights:,} parameters) on {images.name} ({len(images):,} images of {dimensions(images.shape)}), "
            f"{plan.batch_size} images in each update, {plan.precision} on {distributed.processes} x "
            f"{distributed.device}, until {' or '.join(ends)}, in {folder}."
        )

    def show(self, progress: Progress) -> None:
        """Move the bar after an update; say once how long the training takes."""
        self.last = progress
        if self.first is None or progress.step <= self.typical:
            self.first = progress
        self.bar.total = round(progress.step / progress.fraction)  # under a time limit: an estimate, which settles
        rate = progress.step * self.recipe.plan.batch_size / progress.seconds
        self.bar.set_postfix_str(f"loss {progress.loss:.4f}, {rate:.0f} images/s", refresh=False)
        self.bar.update(progress.step - self.bar.n)
        if progress.fraction == 1:
            self._estimate(progress, progress.step, progress.seconds)
        elif progress.seconds - self.first.seconds > ESTIMATE_AFTER:  # without the first: it is slower
            self._estimate(progress, progress.step - self.first.step, progress.seconds - self.first.seconds)

    def print(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        if self.shown:
            self.bar.write(sentence, file=sys.stderr)

    def close(self, saved: bool) -> None:
        """End the bar; if the run was interrupted and saved, print the command that continues it."""
        self.bar.close()
        if saved and self.last is not None and self.last.fraction < 1:
            self.print(
                f"ddim: {self.folder} holds the model after {self.last.step:,} updates; continue with: "
                f"ddim {self.command} {shlex.quote(str(self.folder))} --resume"
            )

    def _estimate(self, progress: Progress, updates: int, seconds: float) -> None:
        """Say once how long the training takes, from the time that some updates took."""
        if self.estimated:
            return
        self.estimated = True
        plan, rate = self.recipe.plan, updates / seconds
        seconds_left = max(0.0, 60 * plan.minutes - progress.seconds) if plan.minutes else math.inf
        by_clock = progress.step + seconds_left * rate
        end = min(self.total or math.inf, by_clock)
        left = (end - progress.step) / rate
        if end == by_clock < FEW and self.distributed.main:
            with self.bar.external_write_mode(file=sys.stderr):
                warnings.warn(self._few(end, rate), Notice, stacklevel=2)
        elif left > SHORT:
            self.print(
                f"ddim: At {rate * plan.batch_size:.0f} images/s, training ends after about {end:,.0f} updates, in "
                f"{duration(left)}."
                + " You can end it with Ctrl-C at any time: the model is kept, and --resume continues."
                * (left > LONG)
            )

    def _few(self, updates: float, rate: float) -> str:
        smallest = next(iter(nets.sizes(self.recipe.network)))
        remedies = [f"a smaller network (--size {smallest})"] if self.recipe.size != smallest else []
        remedies += [f"smaller images (--image-size {self.side // 2})"] if self.side > 16 else []
        remedies.append(f"more time (--minutes {math.ceil(FEW / rate / 60)})")
        return (
            f"Only about {updates:.0f} updates fit into {self.recipe.plan.minutes:g} minutes, and a network learns "
            f"little in fewer than {FEW}; choose {' or '.join(remedies)}."
        )
