"""`ddim evaluate`: how near a model's samples, or the images in a folder, are to real ones."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from ddim.cli.references import Split, extractor, real_images
from ddim.cli.subjects import Subject
from ddim.errors import UserError

if TYPE_CHECKING:
    from ddim.data import Images
    from ddim.evaluate import Extractor

SAMPLING = ("steps", "sampler", "eta", "spacing", "guidance")
OF_A_MODEL = ("count", *SAMPLING)  # flags that mean nothing for a folder of images


@dataclass(frozen=True)
class Evaluate:
    """Measure how near samples are to real images, and look for copies of training images among them.

    Every figure comes with its 95% interval and with what real images show in place of the samples.

    For example:
      ddim evaluate runs/digits
      ddim evaluate mnist --steps 10 --sampler unipc
      ddim evaluate runs/photos --count 5000 --split train
      ddim evaluate generated/ --against mnist
      ddim evaluate generated/ --against photos/ --extractor inception
    """

    what: Positional[str]
    """A run, a model that comes with ddim (mnist or airplanes), or a folder of images."""

    against: str | None = None
    """Real images: a data set, a hub id or a folder; what the model was trained on if not given."""

    count: int = 1000
    """How many samples of a model to draw; of a folder all images count."""

    steps: int | None = None
    """Steps for each sample; the model's own default if not given, like the next three."""

    sampler: str | None = None
    """The solver, as for ddim sample."""

    eta: float | Literal["hat"] | None = None
    """0 is DDIM, 1 is DDPM, hat is sigma-hat."""

    spacing: str | None = None
    """The ladder: trailing, leading, linear, quadratic or log-snr."""

    guidance: float = 1.0
    """Weight of classifier-free guidance; 1 is none."""

    extractor: str | None = None
    """What sees the images: mnist, digits, scattering or inception; the one for the data if not given."""

    split: Split = "test"
    """Which of the real images to compare with."""

    seed: int = 0
    """Of the samples' noise and of the resamplings."""

    out: Path | None = None
    """Folder for what is written; RUN/evaluate for a run, evaluate/NAME for all else, if not given."""

    device: str | None = None
    """cpu, cuda or mps; the best there is if not given."""

    data_dir: Path | None = None
    """Folder with the files of a data set that has a name; DDIM_DATA, then a download, if not given."""

    def run(self) -> None:
        from ddim.device import choose_device
        from ddim.evaluate import copies, measure
        from ddim.evaluate.scoring import check_counts

        subject = Subject.find(self.what)
        self._check(subject)
        real = real_images(subject, self.against, self.split, self.data_dir)
        subject.check(real.reference.shape)
        eye = extractor(self.extractor, real)
        about: dict[str, Any] = {"what": self.what, "reference": real.facts()}
        labels = None
        if subject.model:
            check_counts(eye, self.count, len(real.reference))  # before the samples, which take their time
            labels = self._labels(subject, eye, real.reference)
            sampling = {name: getattr(self, name) for name in SAMPLING}
            samples = subject.draw(self.count, self.device, seed=self.seed, **sampling)
            about |= {**subject.about(), "sampling": subject.words(**sampling)}
        else:
            samples = subject.images(real.reference.shape)
        found = measure(samples, real.reference, extractor=eye, real=real.others, labels=labels, seed=self.seed)
        folder = self.out or subject.place
        files = [found.save(folder, **about)]
        print("\n".join(found.lines()))
        if real.training is not None and real.held_out is not None:
            copied = copies(samples, real.training, real.held_out, device=choose_device(self.device))
            files.append(copied.save(folder, samples, real.training, **about))
            print("\n".join(copied.lines()))
        print(f"The numbers are in {files[0]}" + (f", the closest samples in {files[1]}." if files[1:] else "."))

    def _labels(self, subject: Subject, eye: "Extractor", reference: "Images") -> list[int] | None:
        """The classes that its samples are to be of, if the extractor can tell whether they are; else None.

        Raises:
            UserError: the model has more classes than the images that it was trained on.
        """
        from ddim.evaluate.accuracy import knows

        classes = subject.loaded.classes
        if classes is None or self.against is not None or not knows(eye, reference.classes):
            return None
        if classes > len(reference.classes):
            raise UserError(
                f"{self.what} draws {classes} classes, and {reference.name}, which it says it was trained on, has "
                f"{len(reference.classes)}; name the images to compare with, e.g. --against {reference.name}."
            )
        return subject.labels(self.count)

    def _check(self, subject: Subject) -> None:
        """Raises `UserError` for a flag that means nothing for a folder of images."""
        for one in fields(self):
            if not subject.model and one.name in OF_A_MODEL and getattr(self, one.name) != one.default:
                raise UserError(f"--{one.name} is for samples of a model; {self.what} is a folder of images.")
