"""`ddim doctor`: what a run's numbers say about its training, and what to do."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from ddim.text import counted, printable


@dataclass(frozen=True)
class Doctor:
    """Say what the numbers of a run show about its training, and what to do.

    Its folder is read: the losses by noise level and over time, the schedule, the samples and the search for copies.
    Only the speed of an update is measured anew, in about five seconds.

    For example:
      ddim doctor runs/mnist
      ddim doctor runs/mnist --quick
      ddim doctor mnist
    """

    run_folder: Annotated[Positional[str], arg(metavar="RUN")]
    """A run, e.g. runs/mnist, or a model that comes with ddim."""
    quick: bool = False
    """Do not measure the speed of an update."""

    def run(self) -> None:
        from ddim import doctor, run_folder
        from ddim.loading import find

        run = run_folder.read(find(self.run_folder))
        found = doctor.by_verdict([*doctor.examine(run), *([] if self.quick else [doctor.rate(run)])])
        for one in found:
            print(f"{doctor.MARKS[one.verdict]} {one.subject} ({one.verdict})")
            print("\n".join(f"    {printable(text)}" for text in (one.evidence, one.advice) if text))
        act = sum(one.verdict == "act" for one in found)
        print(f"{counted(act, 'finding')} to act on, of {len(found)}.")
