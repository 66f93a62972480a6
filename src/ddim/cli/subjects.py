"""What `ddim evaluate` and `ddim compare` measure: models and folders of images."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddim.errors import UserError
from ddim.files import user_path
from ddim.text import dimensions

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.cli.guidance import GuidanceFlags
    from ddim.cli.options import BackendFlags
    from ddim.data import Images
    from ddim.data.cache import Stored
    from ddim.denoiser import Denoiser
    from ddim.evaluate.real import Real

Shape = tuple[int, int, int]  # channels, height and width
AGAINST = "name the real images to compare with: --against mnist, or --against PATH for a folder."


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

        folder = find(str(user_path(name)))
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

        return load(self.folder, backend="torch")

    def training_data(self, remedy: str = AGAINST) -> dict[str, Any]:
        """Return the data that a model was trained on, as arguments of `open_images`.

        Raises `UserError`, which ends with `remedy`, for a folder, for unknown data, and for images that have moved.
        """
        from ddim.config import read_config
        from ddim.train.recipe import training_data

        if not self.is_model:
            raise UserError(f"{self.name} is a folder of images; {remedy}")
        config = read_config(self.folder)
        recipe = config.get("recipe")
        if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), str):
            raise UserError(f"{self.name} does not say what it was trained on; {remedy}")
        return training_data(config, self.name, remedy)

    @cached_property
    def shape(self) -> Shape:
        """(C, H, W) of the images of a folder. Raises `UserError` if they have several sizes."""
        stored = stored_copy(str(self.folder), None)
        sizes = sorted(sizes_of(stored))
        if len(sizes) > 1:
            ends = f"from {dimensions(sizes[0])} to {dimensions(sizes[-1])} pixels"
            raise UserError(f"The images in {self.name} have {len(sizes)} sizes, {ends}; bring them to one size first.")
        return (stored.pixels.shape[1], *sizes[0])

    def labels(self, real: "Real", count: int, own: bool) -> "tuple[Tensor | None, str]":
        """Return the class of each of `count` samples, None for all in turn; and how often each class is drawn.

        The classes are as often as in the reference if its classes are those of the model, otherwise as often as in
        the model's training images if they are there. `own` says whether the reference is of the training data.

        Raises:
            UserError: training data whose classes are not those of the model.
        """
        from ddim.config import read_config
        from ddim.data import open_images
        from ddim.evaluate.real import AS_REFERENCE, AS_TRAINED, IN_TURN, labels_for

        data, reference = read_config(self.folder).get("data"), real.reference
        names = data.get("classes") if isinstance(data, dict) else None if own else []  # without names, others' differ
        labels, drawn = labels_for(self.model, reference, count, names)
        if drawn != IN_TURN:
            return labels, drawn
        if own:
            raise UserError(
                f"{self.name} has {self.model.classes} classes, but its training data, {reference.name}, has "
                f"{len(reference.classes)}: {', '.join(reference.classes)}; name the images to compare with, e.g. "
                f"--against {reference.name}."
            )
        with suppress(UserError):  # unknown, or no longer there
            labels, drawn = labels_for(self.model, open_images(**self.training_data()), count, names or None)
        return labels, AS_TRAINED if drawn == AS_REFERENCE else drawn

    def pixels(
        self,
        shape: Shape,
        count: int,
        device: str | None,
        seed: int,
        guided: "GuidanceFlags | None" = None,
        labels: "Tensor | None" = None,
        compute: "BackendFlags | None" = None,
        **options: Any,
    ) -> tuple["Tensor", dict[str, Any]]:
        """Return samples of the model or all images of the folder, (N, C, H, W) uint8, and facts about a model.

        Args:
            shape: (C, H, W) of the real images. Grey images of a folder become RGB where C is 3.
            count, device, seed, labels: of the samples.
            guided: how the model is guided; None is without guidance.
            compute: what computes the network; None is the network itself.
            options: see `ddim.sampling.SamplingOptions`.

        Raises:
            UserError: a folder in colour where the real images are grey, or what `sample` refuses.
        """
        from ddim.backends import serve
        from ddim.config import read_config
        from ddim.data.build import KEPT_SIZE
        from ddim.device import choose_device
        from ddim.evaluate.features import as_pixels
        from ddim.model_io import fingerprint
        from ddim.run_folder import images_seen, read_metrics

        if self.is_model:
            device = choose_device(device)
            model, weak = self.model.to(device), guided.weak(self.folder) if guided else None
            weak = weak and weak.to(device)
            if compute is not None:
                for one in filter(None, (model, weak)):
                    serve(one, compute.backend, compute.precision)
            guidance = {**guided.options(), "weak": weak} if guided else {}
            pixels = model.sample(count, labels=labels, seed=seed, pixels=True, **guidance, **options)
            how, own = (guided.describe(), not guided.given) if guided else ("", True)
            facts = {
                "weights": fingerprint(self.folder),
                "parameters": sum(p.numel() for p in model.network.parameters()),
                "images_seen": images_seen(read_config(self.folder), read_metrics(self.folder / "metrics.jsonl")),
                "backend": model.backend,
                "sampling": f"{model.describe_sampling(own, **options)}{', ' * bool(how)}{how}",
            }
            return pixels, {key: value for key, value in facts.items() if value is not None}
        kept = self.shape[1:] == shape[1:] and shape[1] == shape[2] <= KEPT_SIZE  # then the copy exists
        pixels = as_pixels(both_splits(self.folder, None if kept else shape[1:]))
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, shape[0], -1, -1)
        if tuple(pixels.shape[1:]) != shape:
            raise UserError(
                f"The images in {self.name} are {dimensions(pixels.shape[1:])}, and the real images are "
                f"{dimensions(shape)}; convert one of them first."
            )
        return pixels, {}


def both_splits(path: str | Path, size: Any) -> "Images":
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
    return replace(splits[0], pixels=pixels, labels=labels, split="all", conditions=None)


def stored_copy(
    name_or_path: str, size: Any, classes: str | None = None, crop: str = "centre", range: Any = None
) -> "Stored":
    """Return the decoded copy of a folder or of a hub data set, see `ddim.data.open_images`; a range has no effect."""
    from ddim.data import build, catalogue

    return build.stored(catalogue(name_or_path, classes), size, crop)


def sizes_of(stored: "Stored") -> set[tuple[int, int]]:
    """Return the sizes of the files, (height, width)."""
    return {(fact.height, fact.width) for fact in stored.files()}
