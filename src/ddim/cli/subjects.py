"""What `ddim evaluate` and `ddim compare` measure (models and folders of images), and the real images they use."""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Subject:
    """A model (a run, or one that comes with ddim) or a folder of images."""

    name: str  # the name or path that the user gave
    folder: Path  # of the model or of the images
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

    def pixels(
        self,
        shape: tuple[int, int, int],
        count: int,
        device: str | None,
        seed: int,
        guidance: float = 1.0,
        **options: Any,
    ) -> tuple["Tensor", dict[str, Any]]:
        """Return samples of the model or all images of the folder, (N, C, H, W) uint8, and facts about a model.

        Args:
            shape: (C, H, W) of the real images. Grey images of a folder become RGB where C is 3.
            count, device, seed, guidance: of the samples.
            options: see `ddim.sampling.SamplingOptions`.

        Raises:
            UserError: a folder whose images have another shape or that has none, or what `sample` refuses.
        """
        from ddim.data.build import KEPT_SIZE
        from ddim.device import choose_device
        from ddim.evaluate.features import as_pixels
        from ddim.model_io import fingerprint, read_config
        from ddim.report.run_folder import images_seen, read_metrics

        if self.is_model:
            model = self.model.to(choose_device(device))
            pixels = as_pixels(model.sample(count, seed=seed, guidance=guidance, **options))
            guided = f", guidance {guidance:g}" if guidance != 1 else ""
            facts = {
                "weights": fingerprint(self.folder),
                "parameters": sum(p.numel() for p in model.network.parameters()),
                "images_seen": images_seen(read_config(self.folder), read_metrics(self.folder / "metrics.jsonl")),
                "sampling": f"{model.sampling.describe(**options, schedule=model.schedule)}{guided}",
            }
            return pixels, {key: value for key, value in facts.items() if value is not None}
        pixels = as_pixels(_both_splits(self.name, None if shape[1] <= KEPT_SIZE else shape[1]))
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, shape[0], -1, -1)
        if tuple(pixels.shape[1:]) != shape:
            raise UserError(
                f"The images in {self.name} are {_times(pixels.shape[1:])}, and the real images are "
                f"{_times(shape)}; resize or convert one of them first."
            )
        return pixels, {}


@dataclass(frozen=True)
class Real:
    """Real images to compare with, and the extractor of the features to compare."""

    reference: "Images"
    extractor: "Extractor"
    others: "Images | None" = None  # the other split, to compute the same metrics between real images
    splits: "tuple[Images, Images] | None" = None  # what a model may have been trained on, and the held-out images

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

    def open(self, subjects: Sequence[Subject], count: int) -> Real:
        """Return the real images for subjects, of each of which `count` samples will be drawn if it is a model.

        Raises:
            UserError: a folder of images without --against, a model whose training data is unknown, images that
                cannot be opened or have another shape than a model's, or too few images for the extractor.
        """
        from ddim.data import names, open_images
        from ddim.evaluate import choose, get
        from ddim.evaluate.scoring import check_counts

        first = subjects[0]
        others: Images | None = None
        splits: tuple[Images, Images] | None = None
        size = first.model.shape[-1] if first.is_model else None
        if self.against is not None and self.against not in names() and Path(self.against).expanduser().is_dir():
            reference = _both_splits(self.against, size)
        else:
            source = {"name_or_path": self.against, "size": size} if self.against is not None else _training_data(first)
            data_dir = self.data_dir if source["name_or_path"] in names() else None
            train, test = (open_images(**source, split=split, data_dir=data_dir) for split in ("train", "test"))
            splits = train, test
            reference, others = (train, test) if self.split == "train" else (test, train)
        shape = reference.shape
        models = [subject for subject in subjects if subject.is_model]
        for subject in models:
            if subject.model.shape != shape:
                raise UserError(
                    f"{subject.name} draws images of {_times(subject.model.shape)}, and the real images are "
                    f"{_times(shape)}; compare with images of the same shape."
                )
        extractor = choose(shape, reference.name) if self.extractor is None else get(self.extractor, shape)
        if models:
            check_counts(extractor, count, len(reference))  # before sampling, which takes minutes
        return Real(reference, extractor, others, splits)


def _training_data(subject: Subject) -> dict[str, Any]:
    from ddim.model_io import read_config
    from ddim.train.recipe import source

    if not subject.is_model:
        raise UserError(
            f"{subject.name} is a folder of images; name the real images to compare with, e.g. --against mnist."
        )
    config = read_config(subject.folder)
    recipe = config.get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), str):
        raise UserError(
            f"{subject.name} does not say what it was trained on; name the real images to compare with, e.g. "
            "--against photos/."
        )
    data = source(config, subject.name, "if they have moved, say where they are: --against PATH")
    return {"name_or_path": data, "classes": recipe.get("classes"), "size": recipe.get("image_size")}


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
