"""`ddim reproduce`: train, run the experiments of the paper, and write the report, in one command."""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir, Device
from ddim.errors import UserError
from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.denoiser import Denoiser

QUICK_STEPS, QUICK_MINUTES = 1800, 2.5  # limits of the training with --quick
QUICK_EXPERIMENTS, EXPERIMENTS = 2.0, 30.0  # minutes for the experiments, with --quick and by default
MODEL_FILES = ("config.json", "metrics.jsonl", "environment.json", "model.safetensors")


@dataclass(frozen=True)
class Reproduce:
    """Reproduce the paper: train a model, run the experiments, and write the report.

    Finished work is not repeated: after an interrupt, the same command continues the training, and it skips the
    experiments whose results belong to the current weights.

    For example:
      ddim reproduce digits --quick
      ddim reproduce mnist --minutes 60
      ddim reproduce mnist --model mnist --minutes 30
      ddim reproduce airplanes --device cuda --full
    """

    what: Annotated[Positional[str], arg(metavar="[RECIPE]")] = "digits"
    """A recipe that comes with ddim (see `ddim list recipes`), or a TOML file."""
    quick: bool = False
    """Finish within minutes: at most 1,800 training steps, and short experiments."""
    minutes: float | None = None
    """Time limit in minutes, half of it for training; if not given, the recipe's length and 30 for experiments."""
    full: bool = False
    """Run the training and every experiment at full length. This takes hours on a CPU."""
    model: str | None = None
    """Use this model instead of training one: a run, or a model that comes with ddim."""
    out: Path | None = None
    """Folder of the run; runs/NAME or runs/NAME-quick if not given."""
    device: Device = None
    data_dir: DataDir = None

    def run(self) -> None:
        if self.quick + self.full + (self.minutes is not None) > 1:
            raise UserError("--quick, --minutes and --full exclude each other; give one of them.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be above 0; got {self.minutes}.")
        began = time.monotonic()
        recipe = recipes.read(self.what) if self.what.endswith(".toml") else recipes.shipped(self.what)
        name, plan, minutes = Path(self.what).stem, recipe.plan, EXPERIMENTS
        if self.quick:
            steps, minutes = min(plan.steps or QUICK_STEPS, QUICK_STEPS), QUICK_EXPERIMENTS
            plan = replace(plan, epochs=None, steps=steps, minutes=QUICK_MINUTES)
        elif self.minutes is not None:
            plan = replace(plan, epochs=None, steps=None, minutes=self.minutes / 2)
        recipe = replace(recipe, plan=plan)
        out = self.out or Path("runs") / (f"{name}-quick" if self.quick else name)
        model = self._model(recipe, out)
        if os.environ.get("RANK", "0") != "0":  # of the processes of torchrun, only the first continues
            return
        if self.minutes is not None:
            minutes = max(0.1, self.minutes - (time.monotonic() - began) / 60)
        self._experiments(model, recipe, out, None if self.full else minutes)

    def _model(self, recipe: Recipe, out: Path) -> "Denoiser":
        """Return the model for the experiments: a given one, one trained earlier, or one trained now."""
        from ddim import load
        from ddim.device import choose_device
        from ddim.train.run import train

        if self.model is not None:
            self._adopt(self.model, recipe, out)
        elif not self._finished(recipe, out):
            return train(recipe, out, device=self.device, data_dir=self.data_dir, resume=True)
        else:
            print(f"{out} is already trained; remove the folder to train again.")
        return load(out).to(choose_device(self.device))

    def _adopt(self, name: str, recipe: Recipe, out: Path) -> None:
        """Copy a model into the run folder `out`, which must be empty or hold the same model."""
        from ddim.evaluate.batches import spread_rows
        from ddim.files import write_bytes
        from ddim.loading import find, load
        from ddim.model_io import fingerprint, read_config

        folder = find(name)  # all checks come before the first write
        learnt, own = read_config(folder).get("recipe"), _data(vars(recipe))
        if isinstance(learnt, dict) and "data" in learnt and _data(learnt) != own:
            raise UserError(
                f"{name} was trained on {_data(learnt)}, but the recipe {self.what} is for {own}; choose the "
                "recipe of the same data, or another model."
            )
        spread_rows(load(name), self._images(recipe, "test"), 1)
        if (out / "model.safetensors").is_file() and fingerprint(out) != fingerprint(folder):
            raise UserError(f"{out} contains a model other than {name}; choose another --out, or remove the folder.")
        for file in MODEL_FILES:
            if (folder / file).is_file() and folder.resolve() != out.resolve():
                write_bytes(out / file, (folder / file).read_bytes())

    def _images(self, recipe: Recipe, split: str) -> "Images":
        from ddim.data import open_images

        return open_images(
            recipe.data, classes=recipe.classes, size=recipe.image_size, split=split, data_dir=self.data_dir
        )

    def _experiments(self, model: "Denoiser", recipe: Recipe, out: Path, minutes: float | None) -> None:
        from ddim import experiments, report
        from ddim.progress import bar

        train, test = (self._images(recipe, split) for split in ("train", "test"))
        whole = experiments.seconds_whole(model) / 60
        limit = f"; they are shortened to {minutes:.3g}" if minutes is not None and minutes < whole else ""
        print(f"At full length the experiments take about {whole:,.0f} minutes{limit}.", file=sys.stderr)
        names, setup = experiments.runnable(model=model), experiments.Setup(out, model, train, test)
        done = experiments.run(setup, minutes=minutes, whole=self.full, names=names)
        with bar(done, total=len(names), desc="experiments", unit="experiment") as progress:
            for name in progress:
                progress.set_postfix_str(f"{name} done")
        page = report.write(out)
        print("\n".join(report.verdict(out)))
        print(f"The report is {page}.")

    def _finished(self, recipe: Recipe, out: Path) -> bool | None:
        """Return whether the training in `out` is finished; None if there is none. Raise for another recipe."""
        if not (out / "config.json").is_file():
            return None
        from ddim.model_io import read_config

        finished = bool(read_config(out).get("finished"))
        was = recipes.of_run(out)
        if recipe.plan.precision == "auto":  # the config holds the precision that was chosen
            was = replace(was, plan=replace(was.plan, precision="auto"))
        if was != recipe:
            raise UserError(
                f"{out} contains a run of another recipe; choose another --out, remove the folder, or use its "
                f"model without training: --model {out} --out {out}."
            )
        return finished


def _data(recipe: dict[str, Any]) -> str:
    """Return a recipe's data as text, e.g. "cifar10 (airplane)"."""
    data, classes = recipe.get("data"), recipe.get("classes")
    return f"{data}" if classes is None else f"{data} ({classes})"
