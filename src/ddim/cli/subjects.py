"""What `ddim evaluate` and `ddim compare` measure (models and folders of images), and the real images they use."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddim.cli.options import DataDir
from ddim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.data import Images
    from ddim.denoiser import Denoiser
    from ddim.evaluate import Extractor

KEEPS = 64  # a folder of squares with up to this many pixels a side keeps their size, see `ddim.data.open_images`


@dataclass(frozen=True)
class Subject:
    """A model (a run, or one that comes with ddim) or a folder of images.

    Attributes:
        name: the name or path that the user gave.
        folder: of the model or of the images.
        is_model: whether it is a model.
    """

    name: str
    folder: Path
    is_model: bool

    @classmethod
    def find(cls, name: str) -> "Subject":
        """Return the subject of a name or path. Raises `UserError` if it does not exist."""
        from ddim.loading import find

        folder = find(name)
        return cls(name, folder, (folder / "config.json").is_file())

    @property
    def is_run(self) -> bool:
        """Whether it is a model of the user's own, so that results may be written into its folder."""
        from ddim.loading import comes_with_ddim

        return self.is_model and not comes_with_ddim(self.folder)

    @property
    def results_folder(self) -> Path:
        """The default folder for results: inside a run, but never in the package or in a folder of images."""
        return self.folder / "evaluate" if self.is_run else Path("evaluate") / self.folder.resolve().name

    @property
    def public_name(self) -> str:
        """The name for a report that others read: without the folders of this machine."""
        path = Path(self.name)
        name = path.name if path.is_absolute() or self.name.startswith(("~", "..")) else self.name
        return name.encode(errors="replace").decode()

    @cached_property
    def model(self) -> "Denoiser":
        """The model, loaded at the first use."""
        from ddim.loading import load

        return load(self.folder)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Raise `UserError` for a model whose images have another shape than the real ones, (C, H, W)."""
        if self.is_model and self.model.shape != shape:
            raise UserError(
                f"{self.name} draws images of {_times(self.model.shape)}, and the real images are {_times(shape)}; "
                "compare with images of the same shape."
            )

    def sample(self, count: int, device: str | None, **options: Any) -> "Tensor":
        """Draw samples of a model, (count, C, H, W) in [-1, 1]; `options` go to `Denoiser.sample`."""
        from ddim.device import choose_device

        return self.model.to(choose_device(device)).sample(count, **options)

    def describe_sampling(self, guidance: float = 1.0, **options: Any) -> str:
        """Return how samples are drawn as text, e.g. "unipc, log-snr, 20 steps"."""
        guided = f", guidance {guidance:g}" if guidance != 1 else ""
        return f"{self.model.sampling.describe(**options)}{guided}"

    def facts(self) -> dict[str, Any]:
        """Return a model's fingerprint, size and, if known, the images it was trained on; {} for a folder."""
        from ddim.model_io import fingerprint, read_config
        from ddim.report.run_folder import images_seen, read_metrics

        if not self.is_model:
            return {}
        parameters = sum(p.numel() for p in self.model.network.parameters())
        facts: dict[str, Any] = {"weights": fingerprint(self.folder), "parameters": parameters}
        seen = images_seen(read_config(self.folder), read_metrics(self.folder / "metrics.jsonl"))
        return facts if seen is None else {**facts, "images_seen": seen}

    def labels(self, count: int) -> "list[int] | None":
        """Return the classes of `count` samples, all classes in turn; None for a model without classes."""
        classes = self.model.classes
        return None if classes is None else [i % classes for i in range(count)]

    def images(self, shape: tuple[int, int, int]) -> "Tensor":
        """Return all images of a folder, (N, C, H, W) uint8; grey images become RGB where C is 3.

        Raises:
            UserError: the images have another shape than (C, H, W), or there are none.
        """
        from ddim.evaluate.features import as_pixels

        channels, side, _ = shape
        pixels = as_pixels(_both_splits(self.name, None if side <= KEEPS else side))
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, channels, -1, -1)
        if tuple(pixels.shape[1:]) != shape:
            raise UserError(
                f"The images in {self.name} are {_times(pixels.shape[1:])}, and the real images are "
                f"{_times(shape)}; resize or convert one of them first."
            )
        return pixels


@dataclass(frozen=True)
class Real:
    """Real images.

    Attributes:
        reference: the images to compare with.
        others: the other split, to compute the same metrics between real images; None if there is none.
        training, held_out: the two splits of the data that a model may have been trained on, if known.
    """

    reference: "Images"
    others: "Images | None" = None
    training: "Images | None" = None
    held_out: "Images | None" = None

    def facts(self) -> dict[str, Any]:
        """Return the reference's name, split, number of images and shape, for a JSON file."""
        images = self.reference
        return {"name": images.name, "split": images.split, "images": len(images), "shape": list(images.shape)}


@dataclass(frozen=True)
class RealFlags:
    """The real images to compare with, and the features to compare."""

    against: str | None = None
    """Real images: a named data set, a hub id or a folder; the (first) model's training data if not given."""

    split: Literal["test", "train"] = "test"
    """Split of the real images. A folder given by --against is used whole."""

    extractor: str | None = None
    """Name of a feature extractor (see `ddim list extractors`); the best one for the data if not given."""

    data_dir: DataDir = None

    def open(self, subject: Subject) -> Real:
        """Return the real images for a subject.

        Raises:
            UserError: a folder of images without --against, a model whose training data is unknown, or images
                that cannot be opened.
        """
        from ddim.data import names, open_images

        side = subject.model.shape[-1] if subject.is_model else None
        if self.against is None:
            source = _training_data(subject)
        elif self.against not in names() and Path(self.against).expanduser().is_dir():
            return Real(_both_splits(self.against, side))
        else:
            source = {"name_or_path": self.against, "size": side}
        data_dir = self.data_dir if source["name_or_path"] in names() else None
        train, test = (open_images(**source, split=split, data_dir=data_dir) for split in ("train", "test"))
        reference, others = (train, test) if self.split == "train" else (test, train)
        return Real(reference, others, train, test)

    def open_extractor(self, real: Real) -> "Extractor":
        """Return the extractor. Raises `UserError` for an unknown name or images that it cannot take."""
        from ddim.evaluate import choose, get

        images = real.reference
        return choose(images.shape, images.name) if self.extractor is None else get(self.extractor, images.shape)


def _training_data(subject: Subject) -> dict[str, Any]:
    from ddim.model_io import read_config

    if not subject.is_model:
        raise UserError(
            f"{subject.name} is a folder of images; name the real images to compare with, e.g. --against mnist."
        )
    recipe = read_config(subject.folder).get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), str):
        raise UserError(
            f"{subject.name} does not say what it was trained on; name the real images to compare with, e.g. "
            "--against photos/."
        )
    return {"name_or_path": recipe["data"], "classes": recipe.get("classes"), "size": recipe.get("image_size")}


def _both_splits(path: str, size: int | None) -> "Images":
    """Return all images of a folder as one set. Raises `UserError` if there are none."""
    import torch

    from ddim.data import open_images

    splits, errors = [], []
    for split in ("train", "test"):
        try:
            splits.append(open_images(path, size=size, split=split))
        except UserError as error:  # a folder of equal images has an empty test split
            errors.append(error)
    if not splits:
        raise errors[0]
    pixels, labels = (torch.cat([getattr(images, name) for images in splits]) for name in ("pixels", "labels"))
    return replace(splits[0], pixels=pixels, labels=labels, split="all")


def _times(shape: Any) -> str:
    return " × ".join(map(str, shape))
