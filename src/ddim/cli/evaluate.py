"""`ddim evaluate`: the distance of a model's samples, or of a folder's images, from real images."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddim.cli.options import Device, Guidance, SamplingFlags, refuse
from ddim.cli.subjects import Real, RealFlags, Subject
from ddim.errors import UserError

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser


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
    count: int = 1000
    """Number of samples to draw from a model. Of a folder, all images are used."""
    guidance: Guidance = 1.0
    seed: int = 0
    """Seed of the samples' noise and of the bootstrap."""
    out: Path | None = None
    """Folder for the results; RUN/evaluate for a run, else evaluate/NAME, if not given."""
    device: Device = None
    sampling: SamplingFlags = field(default_factory=SamplingFlags)
    reference: RealFlags = field(default_factory=RealFlags)

    def run(self) -> None:
        from ddim.device import choose_device
        from ddim.evaluate import copies, measure

        subject = Subject.find(self.what)
        if not subject.is_model:
            reason = f"is for samples of a model; {self.what} is a folder of images."
            refuse(self, ("count", "guidance"), reason)
            refuse(self.sampling, asdict(self.sampling), reason)
        real = self.reference.open([subject], self.count)
        labels = self._labels(subject.model, real) if subject.is_model else None
        samples, facts = subject.pixels(
            real.reference.shape, self.count, self.device, self.seed, self.guidance, **self.sampling.options()
        )
        about = {"what": self.what, "reference": real.facts(), **facts}
        evaluation = measure(
            samples, real.reference, extractor=real.extractor, real=real.others, labels=labels, seed=self.seed
        )
        elsewhere = Path("evaluate", subject.folder.resolve().name)  # never in the package or among images
        folder = self.out or (subject.folder / "evaluate" if subject.is_run else elsewhere)
        files = [evaluation.save(folder, **about)]
        print("\n".join(evaluation.lines()))
        if real.splits is not None:
            training, held_out = real.splits
            copied = copies(samples, training, held_out, device=choose_device(self.device))
            files.append(copied.save(folder, samples, training, **about))
            print("\n".join(copied.lines()))
        closest = f" The samples closest to training images are in {files[1]}." if files[1:] else ""
        print(f"The numbers are in {files[0]}.{closest}")

    def _labels(self, model: "Denoiser", real: Real) -> list[int] | None:
        """Return the class of each sample, all in turn, if the extractor can recognise the classes; else None."""
        from ddim.evaluate.accuracy import knows

        classes, reference = model.classes, real.reference
        if classes is None or self.reference.against is not None or not knows(real.extractor, reference.classes):
            return None
        if classes > len(reference.classes):
            raise UserError(
                f"{self.what} has {classes} classes, but its training data, {reference.name}, has "
                f"{len(reference.classes)}; name the images to compare with, e.g. --against {reference.name}."
            )
        return [i % classes for i in range(self.count)]
