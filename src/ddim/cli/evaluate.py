"""`ddim evaluate`: the distance of a model's samples, or of a folder's images, from real images."""

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.guidance import GuidanceFlags
from ddim.cli.options import Device, MeasurementFlags, PathFlag, SamplingFlags, refuse, writable
from ddim.cli.reference import RealFlags
from ddim.cli.subjects import Subject


@dataclass(frozen=True)
class Evaluate:
    """Measure how close samples are to real images, and search them for copies of training images.

    Every metric is printed with its 95% interval, next to the same metric for real images.

    For example:
      ddim evaluate runs/digits
      ddim evaluate mnist --steps 10 --sampler unipc
      ddim evaluate runs/photos --count 5000 --split train
      ddim evaluate generated/ --against mnist
      ddim evaluate generated/ --against photos/ --extractor inception
    """

    what: Annotated[Positional[str], arg(metavar="WHAT")]
    """A run, a model that comes with ddim (see `ddim list models`), or a folder of images."""
    count: int | None = None
    """Number of samples to draw from a model; 1,000 if not given, or fewer for a small data set. A folder is used
    whole."""
    seed: int = 0
    """Seed of the samples' noise and of the bootstrap."""
    out: PathFlag | None = None
    """Folder for the results; RUN/evaluate for a run, else evaluate/NAME, if not given."""
    device: Device = None
    guided: GuidanceFlags = field(default_factory=GuidanceFlags)
    sampling: SamplingFlags = field(default_factory=SamplingFlags)
    compute: MeasurementFlags = field(default_factory=MeasurementFlags)
    reference: RealFlags = field(default_factory=RealFlags)

    def run(self) -> dict[str, Any]:
        from ddim.device import choose_device
        from ddim.evaluate import copies, copying, measure
        from ddim.evaluate.real import AS_REFERENCE
        from ddim.evaluate.scoring import knows
        from ddim.experiments import experiments, results

        subject = Subject.find(self.what)
        if not subject.is_model:
            reason = f"is for samples of a model; {self.what} is a folder of images."
            refuse(self, ("count",), reason)
            refuse(self.guided, asdict(self.guided), reason)
            refuse(self.sampling, asdict(self.sampling), reason)
            refuse(self.compute, asdict(self.compute), reason)
        folder = _folder(subject) if self.out is None else self.out
        writable(folder)
        real, own = self.reference.open([subject], self.count), self.reference.against is None
        shown = subject.is_run and own and self.out is None  # by the report
        count = real.count if self.count is None else self.count
        labels, classes = subject.labels(real, count, own) if subject.is_model else (None, "")
        samples, facts = subject.pixels(
            real.reference.shape,
            count,
            self.device,
            self.seed,
            self.guided,
            labels,
            self.compute,
            **self.sampling.options(),
        )
        about = {"what": self.what, "training_data": own, "reference": real.facts(), "classes": classes, **facts}
        known = labels if classes == AS_REFERENCE and knows(real.extractor, real.reference.classes) else None
        evaluation = measure(
            samples, real.reference, extractor=real.extractor, real=real.others, labels=known, seed=self.seed
        )
        files = [evaluation.save(folder, **about)]
        print("\n".join(evaluation.lines()))
        if classes:
            print(f"Classes are drawn {classes}.")
        found = {**about, **evaluation.to_dict()}
        if real.splits is not None:
            training, held_out = real.splits
            if len(training) > copying.NEXT:
                copied = copies(samples, training, held_out, device=choose_device(self.device))
                if shown:
                    (folder / "memorisation.json").unlink(missing_ok=True)  # its images are about to change
                    results.keep_samples(folder, experiments["memorisation"], copied.pictures(samples, training))
                files.append(copied.save(folder, samples, training, **about))
                found["copies"] = asdict(copied)
                print("\n".join(copied.lines()))
            else:
                print(f"{training.name} has {len(training)} training images, too few for the search for copies.")
        closest = f" The samples closest to training images are in {files[1]}." if files[1:] else ""
        print(f"The numbers are in {files[0]}.{closest}")
        if shown:
            print(f"`ddim report {self.what}` shows them, unless it has those of `ddim reproduce`.")
        return {**found, "files": [str(path) for path in files]}


def _folder(subject: Subject) -> Path:
    """Return the folder for the results: in the run, or named by the place of other models and of images."""
    from ddim.loading import SHIPPED, comes_with_ddim

    if subject.is_run:
        return subject.folder / "evaluate"
    place, here = subject.folder.resolve(), Path.cwd()
    if comes_with_ddim(subject.folder):
        return Path("evaluate", place.name)
    if place != here and place.is_relative_to(here) and not (SHIPPED / place.relative_to(here)).exists():
        return Path("evaluate", place.relative_to(here))
    return Path("evaluate", f"{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}")
