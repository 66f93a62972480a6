"""`ddim average`: choose the width of a run's averaged weights after training."""

from dataclasses import dataclass
from shlex import quote
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import PathFlag
from ddim.errors import UserError


@dataclass(frozen=True)
class Average:
    """Replace a run's model by an average of its weights with another width, or list the widths that are possible.

    The width is the standard deviation of the steps that count, as a share of the training. Training keeps the widths
    of --ema, and snapshots of them, from which the others are made.

    For example:
      ddim average runs/mnist
      ddim average runs/mnist --width 0.08
      ddim evaluate runs/mnist
    """

    run_folder: Annotated[Positional[PathFlag], arg(metavar="RUN")]
    """A run, e.g. runs/mnist."""
    width: float | None = None
    """The width, up to 0.25; 0 is the latest weights. If it is not given, the possible widths are listed."""

    def run(self) -> None:
        from ddim.config import read_config
        from ddim.files import as_table
        from ddim.loading import comes_with_ddim, find
        from ddim.train import averages, checkpoints

        folder = find(str(self.run_folder))
        if comes_with_ddim(folder):
            raise UserError(f"{self.run_folder} comes with ddim, without checkpoints to average; give a run of yours.")
        if self.width is None:
            print("width  error")
            for width, error in averages.widths(folder):
                print(f"{width:<5g}  {error:.1%}{' (too large)' if error > averages.LARGEST_ERROR else ''}")
            saved = averages.saved_width(folder)
            now = as_table(read_config(folder).get("average"))
            width, step, last = now.get("width", saved), now.get("step"), checkpoints.newest(folder)
            earlier = "" if step in (None, last) else f" after {step:,} of {last:,} updates"
            print(f"The model is the average of width {width:g}{earlier}; the first of --ema is {saved:g}.")
            return
        found = averages.write(folder, self.width)
        back = f"ddim average {quote(str(folder))} --width {averages.saved_width(folder):g}"
        print(f"The model of {folder} is now the average of width {found.width:g}, with an error of {found.error:.1%}.")
        print(f"To bring back the last average that training kept: {back}")
