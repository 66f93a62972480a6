"""The real images that `ddim evaluate` and `ddim compare` hold their subjects against, and what sees them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddim.errors import UserError

if TYPE_CHECKING:
    from ddim.cli.subjects import Subject
    from ddim.data import Images
    from ddim.evaluate import Extractor

Split = Literal["test", "train"]


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


def real_images(subject: "Subject", against: str | None, split: Split, data_dir: Path | None) -> Real:
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


def _trained_on(subject: "Subject") -> dict[str, Any]:
    from ddim.model_io import read_config

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
