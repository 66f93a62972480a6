"""`ddim report`: a run as a page."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Report:
    """Write report.html into a run folder, with every figure as PNG and SVG.

    What the figures need (samples, strips, timings) is computed once and kept in the folder.

    For example:
      ddim report runs/digits
      ddim report runs/digits --redo --minutes 10
      ddim report runs/mnist --digest docs/results/mnist
    """

    run_folder: Positional[Path]
    """The run, e.g. runs/digits."""

    minutes: float | None = None
    """About how long sampling and timing may take; the pieces are cut to it. No limit if not given."""

    redo: bool = False
    """Compute again what is in the folder already."""

    digest: Path | None = None
    """A folder for the report in its small form, to be committed: README.md, pictures and numbers.json."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

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
            print(f"The report is {self.run_folder / 'report.html'}, and its small form {small}.")
