"""The real images that `ddim evaluate` and `ddim compare` compare with, and the sizes of images of both sides."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddim.cli.options import DataDir
from ddim.cli.subjects import Shape, Subject, both_splits, sizes_of, stored_copy
from ddim.errors import Notice, UserError
from ddim.files import user_path
from ddim.text import dimensions

if TYPE_CHECKING:
    from ddim.evaluate.real import Real


@dataclass(frozen=True)
class RealFlags:
    """The real images to compare with, and the features to compare."""

    against: str | None = None
    """Real images: a named data set, a hub id or a folder; the (first) model's training data if not given."""
    split: Literal["test", "train"] | None = None
    """Split of the real images; test if not given, or train if it has too few. A folder of --against is used whole."""
    extractor: str | None = None
    """Name of a feature extractor (see `ddim list extractors`); the best one for the data if not given."""
    data_dir: DataDir = None

    def open(self, subjects: Sequence[Subject], count: int | None) -> "Real":
        """Return the real images for subjects, of each of which `count` samples will be drawn if it is a model.

        None is the default count of the real images.

        Raises:
            UserError: a folder of images without --against, a model whose training data is unknown, images that
                cannot be opened or have another size or shape than those of a subject, or too few images.
        """
        from ddim.data import names, open_images
        from ddim.evaluate import real
        from ddim.evaluate.scoring import check_counts

        models = [subject for subject in subjects if subject.is_model]
        folders = [subject for subject in subjects if not subject.is_model]
        if models and count is not None and count > real.MOST:
            more = f"got {count:,}; published results use 10,000 to 50,000"
            raise UserError(f"An evaluation takes at most {real.MOST:,} samples, {more}.")
        against = None if self.against is None else str(user_path(self.against))
        if against is None:
            source = subjects[0].training_data()
        else:
            source = {"name_or_path": against, "size": models[0].model.shape[1:] if models else None}
            if not models and against not in names():
                source["size"] = _size(folders[0], against)
        whole = against is not None and against not in names() and Path(against).is_dir()
        if whole and (self.split is not None or self.data_dir is not None):
            raise UserError(f"{against} is a folder, which is used whole: leave out --split and --data-dir.")
        if whole:
            images = [both_splits(source["name_or_path"], source["size"])]
        else:
            images = [open_images(**source, split=split, data_dir=self.data_dir) for split in ("train", "test")]
        shape = images[0].shape
        for subject in models:
            if subject.model.shape != shape:
                raise UserError(
                    f"{subject.name} draws images of {dimensions(subject.model.shape)}, and the real images are "
                    f"{dimensions(shape)}; compare with images of the same shape."
                )
        if folders:
            _check_sizes(folders, shape, **source)
        if whole:
            chosen = real.of_whole(images[0], self.extractor)
        else:
            chosen = real.of_splits(images[0], images[1], self.split, self.extractor)
        if models:  # before sampling, which takes minutes
            check_counts(chosen.extractor, chosen.count if count is None else count, len(chosen.reference))
        return chosen


def _size(folder: Subject, against: str) -> tuple[int, ...] | None:
    """Return the size to which real images are brought for those in a folder; None if they keep their own."""
    from ddim.data.build import KEPT_SIZE

    size = folder.shape[1:]
    sizes = sizes_of(stored_copy(against, size))
    return None if len(sizes) == 1 and all(high == wide <= KEPT_SIZE for high, wide in sizes) else size


def _check_sizes(folders: Sequence[Subject], shape: Shape, name_or_path: str, **options: Any) -> None:
    """Check that no images of a folder have to be resized, unless the real ones are resized in the same way.

    Args:
        folders: the subjects that are folders.
        shape: (C, H, W) of the real images as they are compared.
        name_or_path, options: of the real images, see `ddim.data.open_images`.

    Raises:
        UserError: a folder with images of another size than the real ones.
    """
    from ddim.data import names

    compared = shape[1:]
    sizes = {compared} if name_or_path in names() else sizes_of(stored_copy(name_or_path, **options))
    resized = [name_or_path] if sizes != {compared} else []
    for folder in folders:
        if folder.shape[1:] != compared:
            if sizes != {folder.shape[1:]}:
                raise UserError(
                    f"The images in {folder.name} are {dimensions(folder.shape)}, the real ones {dimensions(shape)}; "
                    "bring them to that size first."
                )
            resized.append(folder.name)
    if resized:
        which = " and in ".join(resized)
        warnings.warn(f"The images in {which} are brought to {dimensions(compared)} pixels.", Notice, stacklevel=3)
