"""`ddim train`: train a model by a recipe and flags, and write it to a run folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddim.cli.options import DataDir, Device, PathFlag
from ddim.errors import UserError
from ddim.files import user_path
from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe


@dataclass(frozen=True)
class Train:
    """Train a model. Flags override the recipe.

    For example:
      ddim train digits
      ddim train mnist --minutes 30 --device cuda
      ddim train cifar10 --classes airplane,ship --network plain
      ddim train photos/ --image-size 64
      ddim train my-recipe.toml --epochs 50 --out runs/mine
      ddim train runs/mnist --resume --minutes 60
      torchrun --nproc-per-node 4 -m ddim train mnist
    """

    what: Annotated[Positional[str], arg(metavar="[WHAT]")] = "digits"
    """A recipe (`ddim list recipes` or a TOML file), a data set, a folder of images, a hub id, or a run."""
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

        If the flags limit the training, the recipe's own limits do not apply. Raises `UserError` for a recipe that
        cannot be read, or a run to resume that was trained on other data.
        """
        if self.what.endswith(".toml"):
            recipe = recipes.read(self.what)
        else:
            recipe = recipes.shipped(self.what) if self.what in recipes.names() else Recipe(data=self.what)
            if self.resume and (self.folder / "config.json").is_file():
                data = self._source() if _is_run(user_path(self.what)) else recipe.data
                recipe = replace(recipes.of_run(self.folder), data=data)  # `train` compares the images
        if any(flag.split("=")[0] in ("--epochs", "--steps", "--minutes") for flag in flags):
            recipe = replace(recipe, plan=replace(recipe.plan, epochs=None, steps=None, minutes=None))
        return Train(self.what, recipe=recipe)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        if self.out is not None:
            return self.out
        what = user_path(self.what)
        if _is_run(what):
            return what
        return Path("runs") / (what.stem if what.suffix == ".toml" else what.resolve().name or "images")

    def _source(self) -> str:
        from ddim.config import read_config

        remedy = f"if they have moved, say where they are: ddim train PATH --out {self.folder} --resume"
        return recipes.source(read_config(self.folder), self.folder, remedy)

    def run(self) -> None:
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


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()
