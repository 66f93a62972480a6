"""`ddim report`: a run as a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import Device


@dataclass(frozen=True)
class Report:
    """Write report.html into a run folder, and every figure as PNG and SVG.

    What the figures need (samples, timings and other experiments) is computed once and stored in the folder.

    For example:
      ddim report runs/digits
      ddim report runs/digits --redo --minutes 10
      ddim report runs/mnist --digest docs/results/mnist
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run, e.g. runs/digits."""
    minutes: float | None = None
    """Approximate time limit in minutes, to which the experiments are shortened; no limit if not given."""
    redo: bool = False
    """Compute results again that are already in the folder."""
    digest: Path | None = None
    """Folder for a short version to commit to a repository: README.md, pictures and numbers.json."""
    device: Device = None

    def run(self) -> None:
        from ddim import experiments, load, report
        from ddim.device import choose_device

        model = load(self.run_folder).to(choose_device(self.device))
        setup = experiments.Setup(self.run_folder, model)
        for name in experiments.run(setup, minutes=self.minutes, redo=self.redo):
            print(f"{name} done")
        if self.digest is None:
            print(f"The report is {report.write(self.run_folder)}.")
        else:
            small = report.digest(self.run_folder, self.digest)
            print(f"The report is {self.run_folder / 'report.html'}; the short version is {small}.")
