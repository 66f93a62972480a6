"""`ddim compare`: several models or folders of images, ranked against the same real images."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import Device, MeasurementFlags, PathFlag, Steps, writable
from ddim.cli.reference import RealFlags
from ddim.cli.subjects import Subject
from ddim.errors import UserError

SHOWN, COLUMNS = 20, 10  # images of each subject in the picture, and how many of them are side by side


@dataclass(frozen=True)
class Compare:
    """Rank models and folders of images by their distance from the same real images.

    Subjects may have different numbers of images: the rank is by the Fréchet distance minus the distance of equally
    many real images.

    For example:
      ddim compare runs/short runs/long
      ddim compare mnist runs/mine generated/ --against mnist
      ddim compare runs/mine runs/mnist-paper mnist --report
    """

    what: Annotated[Positional[tuple[str, ...]], arg(metavar="WHAT [WHAT ...]")]
    """Runs, models that come with ddim (see `ddim list models`), or folders of images."""
    count: int | None = None
    """Number of samples to draw from each model; 1,000 if not given, or fewer for a small data set. A folder is used
    whole."""
    steps: Steps = None
    seed: int = 0
    """Seed of the samples' noise and of the bootstrap."""
    out: PathFlag = Path("compare")
    """Folder for the numbers and the picture."""
    report: bool = False
    """Also write the result into the first run, so that `ddim report` shows it."""
    device: Device = None
    compute: MeasurementFlags = field(default_factory=MeasurementFlags)
    reference: RealFlags = field(default_factory=RealFlags)

    def run(self) -> dict[str, Any]:
        import torch

        from ddim.evaluate import evaluation, measure
        from ddim.experiments import compare, experiments, results
        from ddim.files import write_text
        from ddim.pictures import visible, write_grid

        subjects = [Subject.find(name) for name in self.what]
        if not subjects or len({subject.folder.resolve() for subject in subjects}) < len(subjects):
            raise UserError("Name what to compare, each once, e.g. `ddim compare runs/a runs/b`.")
        first = subjects[0]
        if self.report and not first.is_run:
            raise UserError(
                f"--report writes into the folder of the first subject, and {first.name} is not one of your runs; "
                "name one of your runs first."
            )
        writable(self.out)
        real = self.reference.open(subjects, self.count)
        extractor, count = real.extractor, real.count if self.count is None else self.count
        drawn = {}
        for subject in subjects:
            if subject.is_model:
                drawn[subject.name] = subject.labels(real, count, subject is first and self.reference.against is None)
        found, rows, about = {}, {}, {}
        for subject in subjects:
            name, (labels, classes) = subject.name, drawn.get(subject.name, (None, ""))
            pixels, about[name] = subject.pixels(
                real.reference.shape,
                count,
                self.device,
                self.seed,
                labels=labels,
                compute=self.compute,
                steps=self.steps,
            )
            about[name] |= {"classes": classes} if classes else {}
            found[name] = measure(pixels, real.reference, extractor=extractor, real=real.others, seed=self.seed)
            rows[name] = pixels[:SHOWN]
        ranked = evaluation.ranked(found)
        picture, numbers = self.out / "compare.png", self.out / "compare.json"
        write_grid(visible(torch.cat([rows[name] for name in ranked])), picture, columns=COLUMNS)
        facts = {name: {**about[name], **found[name].to_dict()} for name in ranked}
        table = {"reference": real.facts(), "subjects": facts}
        write_text(numbers, json.dumps(table, indent=2) + "\n")
        if self.report:
            results.forget(first.folder, "compare")
            public = {subject.name: subject.public_name for subject in subjects}
            kept = [{"name": public[name], **about[name], **found[name].flat()} for name in ranked]
            result = compare.result(extractor.about, len(real.reference), kept)
            samples = {"images": torch.stack([rows[name] for name in ranked])}
            results.keep(first.folder, experiments["compare"], about[first.name]["weights"], result, samples)
        print("\n".join(evaluation.comparison(found)))
        for classes in dict.fromkeys(classes for _, classes in drawn.values() if classes):
            of = ", ".join(name for name, one in drawn.items() if one[1] == classes)
            print(f"Classes of {of} are drawn {classes}.")
        print(f"{picture} shows two rows of each subject, in the order of the table; the numbers are in {numbers}.")
        if self.report:
            print(f"The report of {first.name} shows the result too: ddim report {first.name}")
        return {**table, "files": [str(picture), str(numbers)]}
