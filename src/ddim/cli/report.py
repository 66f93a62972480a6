"""`ddim report`: a run as a page."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import Device, PathFlag, writable
from ddim.errors import UserError


@dataclass(frozen=True)
class Report:
    """Write report.html into a run folder, and every figure as PNG and SVG.

    What the figures need (samples, timings and other experiments) is computed once and stored in the folder.

    For example:
      ddim report runs/digits
      ddim report runs/digits --redo --minutes 10
      ddim report runs/mnist --digest docs/results/mnist
    """

    run_folder: Annotated[Positional[str], arg(metavar="RUN")]
    """The run, e.g. runs/digits."""
    minutes: float | None = None
    """Approximate time limit in minutes, to which the experiments are shortened; no limit if not given."""
    redo: bool = False
    """Compute results again that are already in the folder."""
    digest: PathFlag | None = None
    """Folder for a short version to commit to a repository: README.md, pictures and numbers.json."""
    device: Device = None

    def run(self) -> None:
        from ddim import experiments, load, report
        from ddim.device import choose_device
        from ddim.files import user_path
        from ddim.loading import comes_with_ddim, find

        folder = user_path(self.run_folder)
        if not folder.is_dir() and comes_with_ddim(find(self.run_folder)):
            raise UserError(
                f"{folder} is a model that comes with ddim, not a run; `ddim reproduce {folder} --model {folder}` "
                f"copies it into runs/{folder}, runs the experiments and writes the report."
            )
        model = load(folder, backend="torch").to(choose_device(self.device))
        for place in filter(None, (folder, self.digest)):
            writable(place)
        setup = experiments.Setup(folder, model)
        for name in experiments.run(setup, minutes=self.minutes, redo=self.redo):
            print(f"{name} done")
        if self.digest is None:
            print(f"The report is {report.write(folder)}.")
        else:
            print(f"The report is {folder / 'report.html'}; the short version is {report.digest(folder, self.digest)}.")
