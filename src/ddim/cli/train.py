"""`ddim train`: train a model by a recipe and flags, and write it to a run folder."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir, Device, PathFlag
from ddim.errors import UserError
from ddim.files import as_table, user_path
from ddim.train import recipe as recipes
from ddim.train.recipe import Plan, Recipe


@dataclass(frozen=True)
class Train:
    """Train a model. Flags override the recipe.

    For example:
      ddim train digits
      ddim train mnist --minutes 30 --device cuda
      ddim train cifar10 --classes airplane,ship --network plain
      ddim train photos/ --image-size 64 --minutes 60
      ddim train photos/ --image-size 48x64 --crop fit
      ddim train arrays.npz
      ddim train my-recipe.toml --epochs 50 --out runs/mine
      ddim train runs/mnist --resume --minutes 60
      torchrun --nproc-per-node 4 -m ddim train mnist
    """

    what: Annotated[Positional[str], arg(metavar="[WHAT]")] = "digits"
    """A recipe (`ddim list recipes` or a TOML file), a data set, a folder of images or arrays, a .npy or .npz file, a
    hub id, or a run."""
    out: PathFlag | None = None
    """Folder of the run; runs/NAME if not given."""
    device: Device = None
    data_dir: DataDir = None
    url: str | None = None
    """URL to download the data set from, instead of the official ones."""
    overwrite: bool = False
    """Replace the run in the folder, if there is one."""
    resume: bool = False
    """Continue the run in the folder from its newest checkpoint; start it if the folder is empty."""
    init: str | None = None
    """Fine-tune: start from the weights of this run, or of a model that comes with ddim."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log the metrics with these services."""
    save_every: float = 60.0
    """Seconds between two checkpoints; a killed run loses at most this much."""
    recipe: Recipe = field(default_factory=Recipe)
    """What to train, and on which data."""

    def with_recipe(self, flags: Sequence[str]) -> "Train":
        """Return the defaults of all flags: those of the recipe that `what` and --resume select.

        If the flags limit the training, the recipe's own limits do not apply; if they name a class of the user, the
        recipe's size does not. Images without a recipe get one that fits them and --minutes, see `ddim.train.choice`.
        Raises `UserError` for a recipe or images that cannot be read, or a run to resume that was trained on other
        data.
        """
        chooses = False
        if self.what.endswith(".toml"):
            recipe = recipes.read(self.what)
        else:
            recipe = recipes.shipped(self.what) if self.what in recipes.names() else Recipe(data=self.what)
            if self.resume and (self.folder / "config.json").is_file():
                data = self._source() if _is_run(user_path(self.what)) else recipe.data
                recipe = replace(recipes.of_run(self.folder), data=data)  # `train` compares the images
            elif self.what not in recipes.names():
                free = self.overwrite or not _is_run(self.folder)  # else `run` refuses the folder, or resumes
                alone = os.environ.get("WORLD_SIZE", "1") == "1"  # several processes would choose differently
                chooses = free and alone and self.recipe.plan.minutes is not None
                recipe = self._like_init(recipe)
        if any(flag.split("=")[0] in ("--epochs", "--steps", "--minutes") for flag in flags):
            recipe = replace(recipe, plan=replace(recipe.plan, epochs=None, steps=None, minutes=None))
        if any(flag == "--network" and ":" in value for flag, value in pairwise(flags)):
            recipe = replace(recipe, size=Recipe.size)  # the recipe's own is of another network
        return Train(self.what, recipe=self._chosen(recipe, flags) if chooses else recipe)

    def _like_init(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the network, size, parameterisation and schedule that --init was trained with."""
        if self.init is None:
            return recipe
        from ddim.config import read_config
        from ddim.loading import find

        with suppress(UserError):  # `run` reports it
            trained = as_table(read_config(find(self.init)).get("recipe"))
            names = [name for name in ("network", "size", "predicts", "schedule") if isinstance(trained.get(name), str)]
            return replace(recipe, **{name: trained[name] for name in names})
        return recipe

    def _chosen(self, recipe: Recipe, flags: Sequence[str]) -> Recipe:
        """Return a recipe for the images and --minutes, and say why; flags that are given replace its choices."""
        from ddim import open_images
        from ddim.device import choose_device
        from ddim.progress import note
        from ddim.train.choice import choose, seconds_of_an_update

        given = {flag[2:].split("=")[0].replace("-", "_").removeprefix("no_") for flag in flags if flag[:2] == "--"}
        plan = {one.name: getattr(self.recipe.plan, one.name) for one in fields(Plan) if one.name in given}
        rest = {one.name: getattr(self.recipe, one.name) for one in fields(Recipe) if one.name in given}
        recipe = replace(recipe, **rest, plan=replace(recipe.plan, **plan))
        images = open_images(**recipe.source(), data_dir=self.data_dir, url=self.url)
        device = choose_device(self.device)
        timed = partial(seconds_of_an_update, images=images, device=device)
        choice = choose(recipe, images, given, timed, device, fine_tuned=self.init is not None)
        note(f"ddim: {choice.reason}")
        return choice.recipe

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        if self.out is not None:
            return self.out
        what = user_path(self.what)
        if _is_run(what):
            return what
        file = what.suffix.lower() in (".toml", ".npy", ".npz")
        return Path("runs") / (what.stem if file else what.resolve().name or "images")

    def _source(self) -> str:
        from ddim.config import read_config

        remedy = f"if they have moved, say where they are: ddim train PATH --out {self.folder} --resume"
        return recipes.source(read_config(self.folder), self.folder, remedy)

    def run(self) -> dict[str, Any]:
        from ddim import load
        from ddim.train.run import train
        from ddim.validation import Validation

        if self.resume and self.overwrite:
            raise UserError("--resume continues a run and --overwrite replaces it; give only one of them.")
        train(
            self.recipe,
            self.folder,
            device=self.device,
            data_dir=self.data_dir,
            url=self.url,
            overwrite=self.overwrite,
            resume=self.resume,
            init=None if self.init is None else load(self.init, backend="torch"),
            trackers=self.track,
            save_every=self.save_every,
            validate=Validation,
        )
        if os.environ.get("RANK", "0") == "0":
            print(f"The model is in {self.folder}. Next: ddim sample {self.folder}, or ddim report {self.folder}.")
            last = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
            return {"run": str(self.folder), **json.loads(last)}
        return {}


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()
