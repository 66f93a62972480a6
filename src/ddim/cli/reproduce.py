"""`ddim reproduce`: train, make the papers' experiments, and report, in one command."""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ddim.errors import UserError
from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.denoiser import Denoiser

QUICK_STEPS, QUICK_MINUTES, QUICK_EXPERIMENTS = 1800, 2.5, 2.0  # limits: updates, minutes of training, of the rest
EXPERIMENTS = 30.0  # minutes, if nothing else is said
MODEL_FILES = ("config.json", "metrics.jsonl", "environment.json", "model.safetensors")


@dataclass(frozen=True)
class Reproduce:
    """Reproduce the paper: train a noise predictor, make the experiments, write the report.

    A run that was trained already is not trained again, nor is an experiment made again that was made with its
    weights: after an interrupt the same command goes on.

    For example:
      ddim reproduce digits --quick
      ddim reproduce mnist --minutes 60
      ddim reproduce mnist --model mnist --minutes 30
      ddim reproduce airplanes --device cuda --full
    """

    what: Positional[str] = "digits"
    """A recipe that comes with ddim: airplanes, digits or mnist, and airplanes-paper or mnist-paper."""

    quick: bool = False
    """Minutes in place of hours: 1,800 updates at most, and small experiments."""

    minutes: float | None = None
    """Time for all of it, of which training takes half. If not given, training takes the recipe's own length, and
    the experiments half an hour."""

    full: bool = False
    """Nothing is cut: the recipe's own length, and every experiment whole, for hours on a CPU."""

    model: str | None = None
    """Train nothing, take this model: a run, or one that comes with ddim (airplanes, mnist)."""

    out: Path | None = None
    """Folder of the run; runs/NAME or runs/NAME-quick if not given."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    data_dir: Path | None = None
    """Folder with the data set's files; DDIM_DATA, then a download, if not given."""

    def run(self) -> None:
        if self.quick + self.full + (self.minutes is not None) > 1:
            raise UserError("--quick, --minutes and --full each set the time; give one of them.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be above 0; got {self.minutes}.")
        began = time.monotonic()
        recipe = self._recipe()
        out = self.out or Path("runs") / (f"{self.what}-quick" if self.quick else self.what)
        model = self._model(recipe, out)
        if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started, the first goes on
            return
        minutes: float | None = EXPERIMENTS
        if self.full:
            minutes = None
        elif self.quick:
            minutes = QUICK_EXPERIMENTS
        elif self.minutes is not None:
            minutes = max(0.1, self.minutes - (time.monotonic() - began) / 60)
        self._experiments(model, recipe, out, minutes)

    def _recipe(self) -> Recipe:
        recipe = recipes.shipped(self.what)
        if self.quick:
            plan = replace(recipe.plan, epochs=None, steps=QUICK_STEPS, minutes=QUICK_MINUTES)
        elif self.minutes is not None:
            plan = replace(recipe.plan, epochs=None, steps=None, minutes=self.minutes / 2)
        else:
            plan = recipe.plan
        return replace(recipe, plan=plan)

    def _model(self, recipe: Recipe, out: Path) -> "Denoiser":
        """The model to experiment with: given, trained before, or trained now."""
        from ddim import load
        from ddim.device import choose_device
        from ddim.train.run import train

        if self.model is not None:
            self._adopt(self.model, recipe, out)
        elif not self._finished(recipe, out):
            return train(recipe, out, device=self.device, data_dir=self.data_dir, resume=True)
        else:
            print(f"{out} is trained already; remove it to train anew.")
        return load(out).to(choose_device(self.device))

    def _adopt(self, name: str, recipe: Recipe, out: Path) -> None:
        """Copy a model of the recipe's images into the folder of the run, which holds none or this one."""
        from ddim.evaluate.batches import chosen
        from ddim.files import write_bytes
        from ddim.loading import find, load
        from ddim.model_io import fingerprint, read_config

        folder = find(name)  # what follows refuses it before anything is written
        learnt, own = read_config(folder).get("recipe"), _data(vars(recipe))
        if isinstance(learnt, dict) and "data" in learnt and _data(learnt) != own:
            raise UserError(
                f"{name} was trained on {_data(learnt)}, the recipe {self.what} is on {own}; take the recipe of "
                "its own images, or another model."
            )
        chosen(load(name), self._images(recipe, "test"), 1)
        if (out / "model.safetensors").is_file() and fingerprint(out) != fingerprint(folder):
            raise UserError(f"{out} holds another model than {name}; choose another --out, or remove it.")
        for file in MODEL_FILES:
            if (folder / file).is_file() and folder.resolve() != out.resolve():
                write_bytes(out / file, (folder / file).read_bytes())

    def _images(self, recipe: Recipe, split: str) -> "Images":
        from ddim.data import open_images

        return open_images(
            recipe.data, classes=recipe.classes, size=recipe.image_size, split=split, data_dir=self.data_dir
        )

    def _experiments(self, model: "Denoiser", recipe: Recipe, out: Path, minutes: float | None) -> None:
        from ddim import experiments, progress, report

        train, test = (self._images(recipe, split) for split in ("train", "test"))
        whole = experiments.seconds_whole(model) / 60
        limit = f"; they are cut to {minutes:.3g}" if minutes is not None and minutes < whole else ""
        print(f"The experiments would take about {whole:,.0f} minutes whole{limit}.", file=sys.stderr)
        names, setup = experiments.runnable(), experiments.Setup(out, model, train, test)
        done = experiments.run(setup, minutes=minutes, whole=self.full, names=names)
        with progress.bar(done, total=len(names), desc="experiments", unit="experiment") as bar:
            for name in bar:
                bar.set_postfix_str(f"{name} done")
        page = report.write(out)
        print("\n".join(report.verdict(out)))
        print(f"The report is {page}.")

    def _finished(self, recipe: Recipe, out: Path) -> bool | None:
        """Whether `out` holds the whole of this training, or a part of it; None if it holds none."""
        if not (out / "config.json").is_file():
            return None
        from ddim.model_io import read_config

        finished = bool(read_config(out).get("finished"))
        was = recipes.of_run(out)
        if recipe.plan.precision == "auto":  # what it came to is what the run's config says
            was = replace(was, plan=replace(was.plan, precision="auto"))
        if was != recipe:
            raise UserError(
                f"{out} holds a run of another recipe; choose another --out, remove it, or train nothing, with "
                f"--model {out} --out {out}."
            )
        return finished


def _data(recipe: dict[str, Any]) -> str:
    """The images that a recipe learns from, in words."""
    data, classes = recipe.get("data"), recipe.get("classes")
    return f"{data}" if classes is None else f"{data} ({classes})"
