"""`ddim train`: a recipe, changed by flags, becomes a run folder."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ddim.errors import UserError
from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe


@dataclass(frozen=True)
class Train:
    """Train a model. Flags win over the recipe.

    For example:
      ddim train digits
      ddim train mnist --minutes 30 --device cuda
      ddim train cifar10 --classes airplane,ship --network plain
      ddim train photos/ --image-size 64
      ddim train my-recipe.toml --epochs 50 --out runs/mine
      ddim train runs/mnist --resume --minutes 60
      torchrun --nproc-per-node 4 -m ddim train mnist
    """

    what: Positional[str] = "digits"
    """A recipe that comes with ddim (airplanes, digits, mnist; airplanes-paper, mnist-paper), a recipe of yours (a
    TOML file), a data set,
    a folder of images, a data set of the Hugging Face hub (user/name), or a run to go on with."""

    out: Path | None = None
    """Folder of the run; runs/NAME if not given."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    data_dir: Path | None = None
    """Folder with the data set's files; DDIM_DATA, then a download, if not given."""

    url: str | None = None
    """Download the data set from here instead of its official place."""

    overwrite: bool = False
    """Replace the run in the folder."""

    resume: bool = False
    """Go on with the run in the folder where it stands; begin it if there is none."""

    init: str | None = None
    """Start from the weights of this run, or of a model that comes with ddim, to fine-tune it."""

    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Show the metrics there too."""

    save_every: float = 60.0
    """Seconds between two checkpoints: what a killed run loses at most."""

    recipe: Recipe = field(default_factory=Recipe)
    """What to learn."""

    @classmethod
    def default(cls, what: str, run: Path | None, own_limit: bool) -> "Train":
        """The defaults of all flags for `what`: a run, a recipe file, a shipped recipe, or any data set.

        Args:
            what: the positional argument.
            run: the folder of a run to go on with, whose recipe it is then.
            own_limit: the user says how long to train, and the recipe's limits give way.
        """
        if what.endswith(".toml"):
            recipe = recipes.read(what)
        else:
            recipe = recipes.shipped(what) if what in recipes.names() else Recipe(data=what)
            if run is not None:  # its flags need not be given again
                asked, recipe = recipe.data, recipes.of_run(run)
                if asked != recipe.data and not _is_run(Path(what)):
                    raise UserError(f"{run} was trained on {recipe.data}, not on {asked}; choose another --out.")
        if own_limit:
            recipe = replace(recipe, plan=replace(recipe.plan, epochs=None, steps=None, minutes=None))
        return cls(what, recipe=recipe)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        if self.out is not None:
            return self.out
        what = Path(self.what)
        if _is_run(what):
            return what
        return Path("runs") / (what.stem if what.suffix == ".toml" else what.resolve().name or "images")

    def run(self) -> None:
        from ddim import load
        from ddim.train.run import train

        if self.resume and self.overwrite:
            raise UserError("--resume goes on with a run and --overwrite replaces it; give one of them.")
        train(
            self.recipe,
            self.folder,
            device=self.device,
            data_dir=self.data_dir,
            url=self.url,
            overwrite=self.overwrite,
            resume=self.resume,
            init=None if self.init is None else load(self.init),
            trackers=self.track,
            save_every=self.save_every,
        )
        if os.environ.get("RANK", "0") == "0":
            print(f"The model is in {self.folder}. Next: ddim sample {self.folder}, or ddim report {self.folder}.")


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()
