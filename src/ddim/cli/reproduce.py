"""`ddim reproduce`: train or take a model, run the experiments of DDIM's paper, and write the report, in one go."""

import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir, Device, PathFlag, writable
from ddim.cli.subjects import Subject
from ddim.errors import Notice, UserError
from ddim.files import user_path
from ddim.text import did_you_mean
from ddim.train import recipe as recipes
from ddim.train.recipe import Plan, Recipe

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.denoiser import Denoiser

QUICK_STEPS, QUICK_MINUTES = 1800, 2.5  # limits of the training with --quick
QUICK_EXPERIMENTS, EXPERIMENTS = 2.0, 30.0  # minutes for the experiments, with --quick and by default
MODEL_FILES = ("config.json", "metrics.jsonl", "environment.json", "model.safetensors")

Source = dict[str, Any]  # the data of a model, as arguments of `ddim.data.open_images`


@dataclass(frozen=True)
class Reproduce:
    """Train a model, run the experiments of DDIM's paper on it, and write the report.

    Finished work is not repeated: after an interrupt, the same command continues the training, and it skips the
    experiments whose results belong to the current weights.

    For example:
      ddim reproduce digits --quick
      ddim reproduce mnist --minutes 60
      ddim reproduce photos/ --minutes 60
      ddim reproduce runs/photos
      ddim reproduce --model mnist --minutes 30
      ddim reproduce airplanes --device cuda --full
    """

    what: Annotated[Positional[str | None], arg(metavar="[WHAT]")] = None
    """A recipe (`ddim list recipes` or a TOML file), a folder of images or a data set to train on, or a run, whose
    model is used without training; digits if not given."""
    quick: bool = False
    """Finish within minutes: at most 1,800 training steps, and short experiments."""
    minutes: float | None = None
    """Time limit in minutes, half of it for training; if not given, the recipe's length and 30 for experiments."""
    full: bool = False
    """Run the training and every experiment at full length. This takes hours on a CPU."""
    model: str | None = None
    """Use this model instead of training one: a run, or a model that comes with ddim."""
    out: PathFlag | None = None
    """Folder of the run; for a run that folder itself, otherwise runs/NAME or runs/NAME-quick, if not given."""
    device: Device = None
    data_dir: DataDir = None

    def run(self) -> None:
        if self.quick + self.full + (self.minutes is not None) > 1:
            raise UserError("--quick, --minutes and --full exclude each other; give one of them.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be above 0; got {self.minutes}.")
        began, out = time.monotonic(), self.out
        given = self._given()
        if given is not None and self.what in (None, given.name):  # its data are its own
            remedy = f"name the recipe or the images first, e.g. ddim reproduce photos/ --model {given.name}"
            source, name = given.training_data(remedy), given.folder.resolve().name
            out = out or (given.folder if given.is_run else None)
        else:
            recipe, name = _recipe("digits" if self.what is None else self.what)
            recipe = replace(recipe, plan=self._limited(recipe.plan))
            source = recipe.source()
        out = out or Path("runs", f"{name}-quick" if self.quick else name)
        writable(out)
        model = self._trained(recipe, out) if given is None else self._adopt(given, source, out)
        if os.environ.get("RANK", "0") != "0":  # of the processes of torchrun, only the first continues
            return
        minutes = QUICK_EXPERIMENTS if self.quick else EXPERIMENTS
        if self.minutes is not None:
            minutes = max(0.1, self.minutes - (time.monotonic() - began) / 60)
        self._experiments(model, source, out, None if self.full else minutes)

    def _given(self) -> Subject | None:
        """Return the model to use without training: that of --model, or WHAT if it is a run; otherwise None."""
        from ddim.config import read_config

        name = self.model
        what = None if self.what is None or self.what in recipes.names() else user_path(self.what)
        if what is not None and (what / "config.json").is_file():
            if name not in (None, self.what):
                raise UserError(f"{self.what} is a run, whose own model is used; leave out --model {name}.")
            name = self.what
        if name is None:
            return None
        subject = Subject.find(name)
        if read_config(subject.folder).get("finished") is False:  # refuses a folder without a model
            text = f"The training of {name} is not finished; to continue it: ddim train {name} --resume"
            warnings.warn(text, Notice, stacklevel=2)
        return subject

    def _limited(self, plan: Plan) -> Plan:
        """Return the plan within the limits of --quick and --minutes."""
        if self.quick:
            steps = min(plan.steps or QUICK_STEPS, QUICK_STEPS)
            return replace(plan, epochs=None, steps=steps, minutes=QUICK_MINUTES)
        if self.minutes is not None:
            return replace(plan, epochs=None, steps=None, minutes=self.minutes / 2)
        return plan

    def _trained(self, recipe: Recipe, out: Path) -> "Denoiser":
        """Return the model of a recipe, trained earlier or now."""
        from ddim import load
        from ddim.device import choose_device
        from ddim.train.run import train

        if not _finished(recipe, out):
            return train(recipe, out, device=self.device, data_dir=self.data_dir, resume=True)
        print(f"{out} is already trained; remove the folder to train again.")
        return load(out, backend="torch").to(choose_device(self.device))

    def _adopt(self, given: Subject, source: Source, out: Path) -> "Denoiser":
        """Return the model, copied into the run folder `out`, which must be empty or hold the same model."""
        from ddim import load
        from ddim.config import read_config
        from ddim.device import choose_device
        from ddim.evaluate.batches import spread_rows
        from ddim.files import write_bytes
        from ddim.model_io import fingerprint

        folder, learnt = given.folder, read_config(given.folder).get("recipe")  # all checks come before the first write
        if isinstance(learnt, dict) and "data" in learnt:
            own = given.training_data()
            if not _same_place(own["name_or_path"], source["name_or_path"]) or own["classes"] != source["classes"]:
                raise UserError(
                    f"{given.name} was trained on {_data(own)}, but the recipe {self.what} is for {_data(source)}; "
                    f"choose the recipe of the same data, or leave it out: ddim reproduce --model {given.name}"
                )
        spread_rows(given.model, self._images(source, "test"), 1)
        if (out / "model.safetensors").is_file() and fingerprint(out) != fingerprint(folder):
            raise UserError(
                f"{out} contains a model other than {given.name}; choose another --out, or remove the folder."
            )
        for file in MODEL_FILES:
            if (folder / file).is_file() and folder.resolve() != out.resolve():
                write_bytes(out / file, (folder / file).read_bytes())
        return load(out, backend="torch").to(choose_device(self.device))

    def _images(self, source: Source, split: str) -> "Images":
        from ddim.data import open_images

        return open_images(**source, split=split, data_dir=self.data_dir)

    def _experiments(self, model: "Denoiser", source: Source, out: Path, minutes: float | None) -> None:
        from ddim import experiments, report
        from ddim.progress import bar, note

        train, test = (self._images(source, split) for split in ("train", "test"))
        whole = experiments.seconds_whole(model) / 60
        limit = f"; they are shortened to {minutes:.3g}" if minutes is not None and minutes < whole else ""
        note(f"At full length the experiments take about {whole:,.0f} min{limit}.")
        names, setup = experiments.runnable(model=model), experiments.Setup(out, model, train, test)
        done = experiments.run(setup, minutes=minutes, whole=self.full, names=names)
        with bar(done, total=len(names), desc="experiments", unit="experiment") as progress:
            for name in progress:
                progress.set_postfix_str(f"{name} done")
        page = report.write(out)
        print("\n".join(report.verdict(out)))
        print(f"The report is {page}.")


def _recipe(what: str) -> tuple[Recipe, str]:
    """Return the recipe that WHAT names, and a name for its run. Raises `UserError` if WHAT names none."""
    from ddim import data

    path = user_path(what)
    if what in recipes.names():
        return recipes.shipped(what), what
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        return Recipe(data=what), path.stem
    if path.is_file() or path.suffix.lower() == ".toml":
        return recipes.read(path), path.stem
    if path.is_dir() or what in data.names():
        return Recipe(data=what), path.resolve().name or "images"
    guess = did_you_mean(what, [*recipes.names(), *data.names()])
    raise UserError(
        f"There is no recipe, data set or folder called {what!r}{guess}; choose one of {', '.join(recipes.names())}, "
        "or give the path of a TOML file, of a run or of a folder of images."
    )


def _finished(recipe: Recipe, out: Path) -> bool:
    """Return whether `out` holds a finished training. Raises `UserError` for one of another recipe."""
    if not (out / "config.json").is_file():
        return False
    from ddim.config import read_config

    finished = bool(read_config(out).get("finished"))
    was = recipes.of_run(out)
    if recipe.plan.precision == "auto":  # the config holds the precision that was chosen
        was = replace(was, plan=replace(was.plan, precision="auto"))
    if _same_place(was.data, recipe.data):
        was = replace(was, data=recipe.data)
    if was != recipe:
        raise UserError(
            f"{out} contains a run of another recipe; choose another --out, remove the folder, or use its model "
            f"without training: ddim reproduce {out}"
        )
    return finished


def _same_place(one: str, other: str) -> bool:
    """Return whether two data sets are the same: one name, or one folder."""
    from ddim import data

    names = {one, other} & set(data.names())
    return one == other or (not names and user_path(one).resolve() == user_path(other).resolve())


def _data(source: Source) -> str:
    """Return data as text, e.g. "cifar10 (airplane)"."""
    data, classes = source["name_or_path"], source["classes"]
    return f"{data}" if classes is None else f"{data} ({classes})"
