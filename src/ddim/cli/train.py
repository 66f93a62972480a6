"""`ddim train`: a recipe, changed by flags, becomes a run folder."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from tyro.conf import Positional

from ddim.train import recipe as recipes
from ddim.train.recipe import Recipe


@dataclass(frozen=True)
class Train:
    """Train a model. Flags win over the recipe.

    For example:
      ddim train digits
      ddim train mnist --minutes 30 --device cuda
      ddim train cifar10 --classes airplane,ship --network plain
      ddim train my-recipe.toml --epochs 50 --out runs/mine
    """

    what: Positional[str] = "digits"
    """A recipe that comes with ddim (airplanes, digits, mnist), a recipe of yours (a TOML file), or a data set."""

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

    recipe: Recipe = field(default_factory=Recipe)
    """What to learn."""

    @classmethod
    def default(cls, what: str, own_limit: bool) -> "Train":
        """The defaults of all flags for `what`: a recipe file, a shipped recipe, or any data set.

        Args:
            what: the positional argument.
            own_limit: the user says how long to train, and the recipe's limits give way.
        """
        if what.endswith(".toml"):
            recipe = recipes.read(what)
        else:
            recipe = recipes.shipped(what) if what in recipes.names() else Recipe(data=what)
        if own_limit:
            recipe = replace(recipe, plan=replace(recipe.plan, epochs=None, steps=None, minutes=None))
        return cls(what, recipe=recipe)

    def run(self) -> None:
        from ddim.train.run import train

        out = self.out or Path("runs") / Path(self.what).stem
        train(self.recipe, out, device=self.device, data_dir=self.data_dir, url=self.url, overwrite=self.overwrite)
        print(f"The model is in {out}. Next: ddim sample {out}, or ddim report {out}.")
