"""`ddim reproduce`: train, sample with DDIM and with DDPM, and report, in one command."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from ddim.errors import UserError
from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe

QUICK_STEPS, QUICK_MINUTES, QUICK_REPORT = 1800, 2.5, 1.5  # limits: updates, minutes of training, of the report


@dataclass(frozen=True)
class Reproduce:
    """Reproduce the paper: train a noise predictor, sample it with DDIM and DDPM, write the report.

    A run that was trained already is not trained again: the report alone is made anew.

    For example:
      ddim reproduce digits --quick
      ddim reproduce mnist --minutes 60
      ddim reproduce airplanes --device cuda
    """

    what: Positional[str] = "digits"
    """A recipe that comes with ddim: airplanes, digits or mnist, and airplanes-paper or mnist-paper."""

    quick: bool = False
    """Minutes in place of hours: 1,800 updates at most, and fewer samples."""

    minutes: float | None = None
    """Time for training; the recipe's own length if not given."""

    out: Path | None = None
    """Folder of the run; runs/NAME or runs/NAME-quick if not given."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    data_dir: Path | None = None
    """Folder with the data set's files; DDIM_DATA, then a download, if not given."""

    def run(self) -> None:
        if self.quick and self.minutes is not None:
            raise UserError("--quick sets the time itself; give --quick or --minutes, not both.")
        recipe = recipes.shipped(self.what)
        if self.quick:
            plan = replace(recipe.plan, epochs=None, steps=QUICK_STEPS, minutes=QUICK_MINUTES)
        elif self.minutes is not None:
            plan = replace(recipe.plan, epochs=None, steps=None, minutes=self.minutes)
        else:
            plan = recipe.plan
        out = self.out or Path("runs") / (f"{self.what}-quick" if self.quick else self.what)

        recipe = replace(recipe, plan=plan)

        from ddim import load
        from ddim.cli.report import make_report
        from ddim.train.engine import choose_device
        from ddim.train.run import train

        finished = self._finished(recipe, out)
        if finished:
            print(f"{out} is trained already; remove it to train anew.")
            model = load(out).to(choose_device(self.device))
        else:
            model = train(recipe, out, device=self.device, data_dir=self.data_dir, resume=True)
        if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started, the first draws
            return
        make_report(model, out, QUICK_REPORT if self.quick else None)

    def _finished(self, recipe: Recipe, out: Path) -> bool | None:
        """Whether `out` holds the whole of this training, or a part of it; None if it holds none."""
        if not (out / "config.json").is_file():
            return None
        from ddim.checkpoint import read_config

        finished = bool(read_config(out).get("finished"))
        was = recipes.of_run(out)
        if recipe.plan.precision == "auto":  # what it came to is what the run's config says
            was = replace(was, plan=replace(was.plan, precision="auto"))
        if was != recipe:
            raise UserError(f"{out} holds a run of another recipe; choose another --out, or remove it.")
        return finished
