"""What `ddim evaluate` and `ddim compare` judge, and the real images that they hold it against."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ddim.data import Images
    from ddim.denoiser import Denoiser
    from ddim.evaluate import Extractor

Split = Literal["test", "train"]
KEEPS = 64  # a folder of squares up to this side keeps their size, see `ddim.data`


@dataclass(frozen=True)
class Subject:
    """A run or a model that comes with ddim, or a folder of images.

    Attributes:
        name: as it was given.
        folder: where it lies.
        model: whether it is a model.
    """

    name: str
    folder: Path
    model: bool

    @classmethod
    def find(cls, name: str) -> "Subject":
        """By its name or path. Raises `UserError` if there is neither."""
        from ddim.loading import find

        folder = find(name)
        return cls(name, folder, (folder / "config.json").is_file())

    @property
    def place(self) -> Path:
        """Where its results go: into a run's own folder, not into the package, nor among somebody's images."""
        from ddim.loading import SHIPPED

        own = self.model and self.folder.parent != SHIPPED
        return self.folder if own else Path("evaluate") / self.folder.resolve().name

    @cached_property
    def loaded(self) -> "Denoiser":
        """The model."""
        from ddim.loading import load

        return load(self.folder)

    def draw(self, count: int, device: str | None, **sampling: Any) -> "Tensor":
        """New samples of the model, (count, C, H, W) in [-1, 1]; `sampling` goes to `Denoiser.sample`."""
        from ddim.train.engine import choose_device

        return self.loaded.to(choose_device(device)).sample(count, **sampling)

    def words(self, guidance: float = 1.0, **sampling: Any) -> str:
        """How it is sampled, in words, e.g. "unipc, log-snr, 20 steps"."""
        from ddim.sampling import OTHERS

        usual = self.loaded.sampling
        sampler, levels = usual.walk(self.loaded.schedule, **sampling)
        name = sampling.get("sampler") or (usual.sampler if sampling.get("eta") is None else "ddim")
        spacing = sampling.get("spacing") or (usual.spacing if name == usual.sampler else OTHERS)
        eta = getattr(sampler, "eta", None)
        injected = "" if eta is None else f", eta = {eta if isinstance(eta, str) else f'{eta:g}'}"
        guided = f", guidance {guidance:g}" if guidance != 1 else ""
        return f"{name}, {spacing}, {len(levels) - 1} steps{injected}{guided}"

    def labels(self, count: int) -> "list[int] | None":
        """The classes that `draw` asks for, all in turn; None for a model without."""
        classes = self.loaded.classes
        return None if classes is None else [i % classes for i in range(count)]

    def images(self, shape: tuple[int, int, int]) -> "Tensor":
        """All images of a folder, (N, C, H, W) uint8, grey ones in colour where that is asked for.

        Raises:
            UserError: they have not that shape, or there are none.
        """
        from ddim.evaluate.features import as_pixels

        channels, side, _ = shape
        pixels = as_pixels(whole(self.name, None if side <= KEEPS else side))
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, channels, -1, -1)
        if tuple(pixels.shape[1:]) != shape:
            there, wanted = (" × ".join(map(str, one)) for one in (pixels.shape[1:], shape))
            raise UserError(
                f"The images in {self.name} are {there}, the real ones {wanted}; bring them to that first."
            )
        return pixels


def extractor(name: str | None, real: "Real") -> "Extractor":
    """What sees the images: the one of that name, or the one for the data. Raises `UserError` if it cannot."""
    from ddim.evaluate import choose, get

    one = real.reference
    return choose(one.shape, one.name) if name is None else get(name, one.shape)


@dataclass(frozen=True)
class Real:
    """Real images.

    Attributes:
        reference: to compare with.
        others: more of them, for the floor; None if there are none.
        training, held_out: the two splits, if it is known what may have been trained on.
    """

    reference: "Images"
    others: "Images | None" = None
    training: "Images | None" = None
    held_out: "Images | None" = None

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        one = self.reference
        return {"name": one.name, "split": one.split, "images": len(one), "shape": list(one.shape)}


def real_images(subject: Subject, against: str | None, split: Split, data_dir: Path | None) -> Real:
    """The real images for a subject.

    Args:
        subject: a model knows its own.
        against: a data set by name, a hub id or a folder in their place; of a folder all images are the reference.
        split: which of the splits is the reference.
        data_dir: where the data set's files lie.

    Raises:
        UserError: a folder of images without `against`, a model that does not say what it was trained on, or images
            that cannot be opened.
    """
    from ddim.data import names, open_images

    side = subject.loaded.shape[-1] if subject.model else None
    if against is not None and against not in names() and Path(against).expanduser().is_dir():
        return Real(whole(against, side))
    where: dict[str, Any] = {"name_or_path": against, "size": side}
    if against is None:
        where = _trained_on(subject)
    data_dir = data_dir if where["name_or_path"] in names() else None
    both = {one: open_images(**where, split=one, data_dir=data_dir) for one in ("train", "test")}
    other = "test" if split == "train" else "train"
    return Real(both[split], both[other], both["train"], both["test"])


def _trained_on(subject: Subject) -> dict[str, Any]:
    from ddim.checkpoint import read_config

    if not subject.model:
        raise UserError(
            f"{subject.name} is a folder of images; name the real ones to compare with, e.g. --against mnist."
        )
    recipe = read_config(subject.folder).get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("data"), str):
        raise UserError(
            f"{subject.name} does not say what it was trained on; name real images to compare with, e.g. "
            "--against photos/."
        )
    return {"name_or_path": recipe["data"], "classes": recipe.get("classes"), "size": recipe.get("image_size")}


def whole(path: str, size: int | None) -> "Images":
    """Both splits of a folder as one set. Raises `UserError` if there is no image in it."""
    import torch

    from ddim.data import open_images

    found, refusals = [], []
    for split in ("train", "test"):
        try:
            found.append(open_images(path, size=size, split=split))
        except UserError as refusal:  # a folder of equal images has nothing to hold out
            refusals.append(refusal)
    if not found:
        raise refusals[0]
    pixels, labels = (torch.cat([getattr(one, name) for one in found]) for name in ("pixels", "labels"))
    return replace(found[0], pixels=pixels, labels=labels, split="all")
