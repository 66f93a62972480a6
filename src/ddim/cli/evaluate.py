"""`ddim evaluate`: the distance of a model's samples, or of a folder's images, from real images."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import Device, Guidance, SamplingFlags
from ddim.cli.subjects import RealFlags, Subject
from ddim.errors import UserError

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.evaluate import Extractor


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
        from ddim.evaluate.scoring import check_counts

        subject = Subject.find(self.what)
        if not subject.is_model:
            self._check_flags()
        real = self.reference.open(subject)
        subject.check_shape(real.reference.shape)
        extractor = self.reference.open_extractor(real)
        about: dict[str, Any] = {"what": self.what, "reference": real.facts()}
        labels = None
        if subject.is_model:
            check_counts(extractor, self.count, len(real.reference))  # before sampling, which takes minutes
            labels = self._labels(subject, extractor, real.reference)
            options: dict[str, Any] = {**self.sampling.options(), "guidance": self.guidance}
            samples = subject.sample(self.count, self.device, seed=self.seed, **options)
            about |= {**subject.facts(), "sampling": subject.describe_sampling(**options)}
        else:
            samples = subject.images(real.reference.shape)
        evaluation = measure(
            samples, real.reference, extractor=extractor, real=real.others, labels=labels, seed=self.seed
        )
        folder = self.out or subject.results_folder
        files = [evaluation.save(folder, **about)]
        print("\n".join(evaluation.lines()))
        if real.training is not None and real.held_out is not None:
            copied = copies(samples, real.training, real.held_out, device=choose_device(self.device))
            files.append(copied.save(folder, samples, real.training, **about))
            print("\n".join(copied.lines()))
        closest = f" The samples closest to training images are in {files[1]}." if files[1:] else ""
        print(f"The numbers are in {files[0]}.{closest}")

    def _labels(self, subject: Subject, extractor: "Extractor", reference: "Images") -> list[int] | None:
        """Return the classes to sample, if the extractor can recognise them; else None.

        Raises:
            UserError: the model has more classes than the images that it was trained on.
        """
        from ddim.evaluate.accuracy import knows

        classes = subject.model.classes
        if classes is None or self.reference.against is not None or not knows(extractor, reference.classes):
            return None
        if classes > len(reference.classes):
            raise UserError(
                f"{self.what} has {classes} classes, but its training data, {reference.name}, has "
                f"{len(reference.classes)}; name the images to compare with, e.g. --against {reference.name}."
            )
        return subject.labels(self.count)

    def _check_flags(self) -> None:
        """Raise `UserError` if a flag for sampling was given for a folder of images."""
        default = Evaluate(self.what)
        given = {"count": self.count, "guidance": self.guidance, **asdict(self.sampling)}
        defaults = {"count": default.count, "guidance": default.guidance, **asdict(default.sampling)}
        for name, value in given.items():
            if value != defaults[name]:
                raise UserError(f"--{name} is for samples of a model; {self.what} is a folder of images.")
