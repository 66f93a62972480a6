"""`ddim compare`: several models or folders of images against the same real images."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.cli.references import Split, extractor, real_images
from ddim.cli.subjects import Subject
from ddim.errors import UserError

SHOWN, COLUMNS = 20, 10  # of each in the picture: images, and how many of them side by side


@dataclass(frozen=True)
class Compare:
    """Rank models, and images made by anything else, by how near they come to the same real images.

    The rank is by the Fréchet distance less that of as many real images, so that few images may meet many.

    For example:
      ddim compare runs/short runs/long
      ddim compare mnist runs/mine generated/ --against mnist
      ddim compare runs/mine runs/mnist-paper mnist --report
    """

    what: Positional[tuple[str, ...]]
    """Runs, models that come with ddim, or folders of images."""

    against: str | None = None
    """Real images: a data set, a hub id or a folder; what the first was trained on if not given."""

    count: int = 1000
    """How many samples of each model to draw; of a folder all images count."""

    steps: int | None = None
    """Steps for each sample; each model's own default if not given."""

    extractor: str | None = None
    """What sees the images: mnist, digits, scattering or inception; the one for the data if not given."""

    split: Split = "test"
    """Which of the real images to compare with."""

    seed: int = 0
    """Of the samples' noise and of the resamplings."""

    out: Path = Path("compare")
    """Folder for the numbers and the picture."""

    report: bool = False
    """Keep it in the folder of the first too, where `ddim report` shows it."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    data_dir: Path | None = None
    """Folder with the files of a data set that has a name; DDIM_DATA, then a download, if not given."""

    def run(self) -> None:
        import torch

        from ddim.evaluate import comparison, measure
        from ddim.evaluate.features import as_pixels
        from ddim.evaluate.scoring import check
        from ddim.experiments import compare, experiments, results
        from ddim.files import write_text
        from ddim.pictures import write_grid

        if not self.what or len(set(self.what)) < len(self.what):
            raise UserError("Name what to compare, each once, as in `ddim compare runs/a runs/b`.")
        subjects = [Subject.find(name) for name in self.what]
        first = subjects[0]
        if self.report and not first.is_run:
            raise UserError(
                f"--report writes into the folder of the first, and {first.name} is not one of your runs; name one."
            )
        real = real_images(first, self.against, self.split, self.data_dir)
        for one in subjects:
            one.check(real.reference.shape)
        eye = extractor(self.extractor, real)
        found, rows, about = {}, {}, {}
        if any(one.model for one in subjects):
            check(eye, self.count, len(real.reference))  # before the samples, which take their time
        for one in subjects:
            if one.model:
                pixels = as_pixels(one.draw(self.count, self.device, seed=self.seed, steps=self.steps))
                about[one.name] = {**one.about(), "sampling": one.words(steps=self.steps)}
            else:
                pixels, about[one.name] = one.images(real.reference.shape), {}
            found[one.name] = measure(pixels, real.reference, extractor=eye, real=real.others, seed=self.seed)
            rows[one.name] = pixels[:SHOWN]
        ranked = comparison.ranked(found)
        picture, numbers = self.out / "compare.png", self.out / "compare.json"
        write_grid(torch.cat([rows[name] for name in ranked]), picture, columns=COLUMNS)
        facts = {name: {**about[name], **found[name].facts()} for name in ranked}
        table = {"reference": real.facts(), "subjects": facts}
        write_text(numbers, json.dumps(table, indent=2) + "\n")
        if self.report:
            results.forget(first.folder, "compare")
            public = {one.name: one.public_name for one in subjects}
            kept = [{"name": public[name], **about[name], **found[name].flat()} for name in ranked]
            result = compare.result(eye.about, len(real.reference), kept)
            samples = {"images": torch.stack([rows[name] for name in ranked])}
            results.keep(first.folder, experiments["compare"], about[first.name]["weights"], result, samples)
        print("\n".join(comparison.lines(found)))
        print(f"In {picture} two rows for each, in the order of the table; the numbers are in {numbers}.")
        if self.report:
            print(f"The report of {first.name} shows it too: ddim report {first.name}")
