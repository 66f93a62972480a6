"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: no download, seconds to train."""

import hashlib
from pathlib import Path

import torch

from ddim.data.augmentations import HANDWRITING
from ddim.data.images import Images, register
from ddim.errors import UserError

TRAIN = 1500  # images


@register("digits")
def load(split: str, data_dir: str | Path | None = None, url: str | None = None) -> Images:
    """Return the 1,500 training images or the 297 test images, in 17 grey levels.

    Reference: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).

    The images come in blocks, one block per writer, so the last 297 would be from writers that are not in the
    training split. The split is therefore shuffled by a hash of the index. It is the same on every machine; the
    stream of a random generator may change with its library's version.

    Raises `UserError` for a `data_dir` or a `url`: these images come with scikit-learn.
    """
    if data_dir is not None or url is not None:
        raise UserError("The digits come with scikit-learn, not as files; leave out data_dir and url.")
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    order = sorted(range(len(labels)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    rows = order[:TRAIN] if split == "train" else order[TRAIN:]
    return Images(
        pixels=torch.from_numpy(pixels[rows]).to(torch.uint8).view(-1, 1, 8, 8),
        labels=torch.from_numpy(labels[rows]).long(),
        classes=tuple("0123456789"),
        name="digits",
        split=split,
        grey_levels=17,
        augmentations=HANDWRITING,
    )
