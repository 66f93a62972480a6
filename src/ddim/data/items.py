"""NumPy arrays, tensors, and data sets of PyTorch as `Images`.

A map-style `torch.utils.data.Dataset` is read item by item, when a batch needs the item, so its memory and its random
transforms are its own.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data._utils.collate import default_collate

from ddim.data.arrays import check_dtype
from ddim.data.images import Images
from ddim.errors import UserError
from ddim.progress import bar
from ddim.values import DTYPES, Values, channels_first, chosen_range, layout_of

BLOCK = 1 << 22  # numbers that are looked at together


class Items:
    """The images of a data set, indexed as a tensor (N, C, H, W) is; each access reads them.

    Args:
        dataset: its items are images, or tuples that begin with an image.
        shape, dtype, layout: of the first image, (C, H, W), and its type and order of axes.
    """

    nbytes = math.inf  # never copied to a device as a whole

    def __init__(self, dataset: Any, shape: tuple[int, ...], dtype: str, layout: str) -> None:
        self.dataset, self.layout = dataset, layout
        self.shape, self.dtype = torch.Size((len(dataset), *shape)), DTYPES[dtype]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """Return an image, or those of a slice, of a tensor of indices or of a mask."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(index)
            return self.read(index % len(self))
        rows = torch.arange(len(self))[index].tolist()
        if not rows:
            return torch.empty(0, *self.shape[1:], dtype=self.dtype)
        return torch.stack([self.read(i) for i in rows])

    def read(self, i: int) -> Tensor:
        """Return image i, see `checked`."""
        return self.checked(parts(self.dataset[i]).image, i)

    def checked(self, image: Any, i: int) -> Tensor:
        """Return image i as a tensor (C, H, W).

        Raises `UserError` if it differs from the first one in shape or type, or is not finite.
        """
        pixels = _pixels(image, self.layout, f"Item {i} of the data set")
        if pixels.shape != self.shape[1:] or pixels.dtype != self.dtype:
            raise UserError(
                f"Item {i} of the data set is {pixels.dtype} of shape {tuple(pixels.shape)}, and item 0 is "
                f"{self.dtype} of shape {tuple(self.shape[1:])}; resize and convert the images in its transform."
            )
        if pixels.is_floating_point() and not pixels.isfinite().all():
            raise UserError(f"Item {i} of the data set holds numbers that are NaN or infinite; correct it.")
        return pixels


class Parts(NamedTuple):
    """What an item of a data set holds."""

    image: Any
    label: Any = None
    vector: Any = None  # its condition


def parts(item: Any) -> Parts:
    """Return what an item holds: an image, or a sequence of an image, an integer label and a vector, or one of them."""
    if not isinstance(item, tuple | list) or not item:
        return Parts(item)
    image, *others = item[:3]
    vectors = [other for other in others if isinstance(other, np.ndarray | Tensor) and other.ndim == 1]
    labels = [other for other in others if not any(other is vector for vector in vectors)]
    return Parts(image, *(found[0] if found else None for found in (labels, vectors)))


def open_items(source: Any, name: str = "", range: tuple[float, float] | None = None) -> Images:
    """Return an array, a tensor, a map-style data set or a `DataLoader` as `Images`, all its items.

    Of a `DataLoader` the data set is taken: the plan of a training decides the batches and their order.

    Args:
        source: an array or tensor (N, C, H, W), (N, H, W, C) with 1, 3 or 4 channels, or (N, H, W); or a data set whose
            items are images, arrays or tensors of one shape, or tuples of an image and an integer label, a vector (its
            condition), or both. It is read once, for its labels, its conditions and its range.
        name: of the set; its type if not given.
        range: the numbers that become -1 and 1, see `ddim.values.chosen_range`.

    Raises:
        UserError: a source that is none of these, images of several shapes or types, numbers that are NaN, of a type
            that is not read, or all equal.
    """
    if isinstance(source, DataLoader):
        source = _dataset_of(source)
    if isinstance(source, Images):
        return source
    name = name or type(source).__name__
    if isinstance(source, np.ndarray | Tensor):
        return _of_array(source, name, range)
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if isinstance(source, IterableDataset | str | bytes | dict) or not indexed:
        raise UserError(
            "Images are a ddim.data.Images, a NumPy array, a tensor, or a data set with __len__ and __getitem__; got "
            f"{type(source).__name__}: open a path by ddim.open_images, and list the items of a stream."
        )
    if not len(source):
        raise UserError(f"The data set {name} holds no item; check how it was made.")
    return _of_dataset(source, name, range)


def _of_array(source: Any, name: str, range: tuple[float, float] | None) -> Images:
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    check_dtype(array.dtype, f"The {name}")
    if array.ndim not in (3, 4) or not len(array):
        raise UserError(
            f"The {name} has the shape {array.shape}; images are an array (N, C, H, W), (N, H, W, C) with 1, 3 or 4 "
            "channels, or (N, H, W), with at least one image."
        )
    layout = layout_of(array.shape[1:], f"An image in the {name}")
    least, greatest, step = math.inf, -math.inf, max(1, BLOCK // math.prod(array.shape[1:]))
    for at in np.arange(0, len(array), step):
        block = array[at : at + step]
        if not np.isfinite(block).all():
            bad = int(at) + int(np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))[0])
            raise UserError(f"Image {bad} of the {name} holds numbers that are NaN or infinite; correct or drop it.")
        least, greatest = min(least, block.min().item()), max(greatest, block.max().item())
    dtype = array.dtype.name
    values = Values(chosen_range(f"the {name}", dtype, least, greatest, range), dtype, layout)
    pixels = channels_first(array.astype(array.dtype.newbyteorder("="), copy=False), layout)
    if any(stride < 0 for stride in pixels.strides) or not pixels.flags.writeable:
        pixels = pixels.copy()  # PyTorch takes neither
    return Images(torch.from_numpy(pixels), torch.zeros(len(array)).long(), (name,), name, values=values)


def _of_dataset(source: Any, name: str, range: tuple[float, float] | None) -> Images:
    first = parts(source[0])
    array = _array(first.image, "Item 0 of the data set")
    layout = layout_of(array.shape, "Item 0 of the data set")
    check_dtype(array.dtype, "Item 0 of the data set")
    items = Items(source, channels_first(array, layout).shape, array.dtype.name, layout)
    labels, vectors, least, greatest = [], [], math.inf, -math.inf
    for i in bar(np.arange(len(items)).tolist(), desc=f"reading {name}", unit="item"):
        item = parts(source[i])
        pixels = items.checked(item.image, i).numpy()
        least, greatest = min(least, pixels.min().item()), max(greatest, pixels.max().item())
        labels.append(_label(item.label, i, name))
        vectors.append(torch.empty(0) if item.vector is None else torch.as_tensor(item.vector).float())
        if vectors[i].shape != vectors[0].shape:
            raise UserError(f"Item {i} of {name} has another condition than item 0; give vectors of one length to all.")
    dtype = array.dtype.name
    values = Values(chosen_range(f"the data set {name}", dtype, least, greatest, range), dtype, layout)
    found, classes = _named(labels, getattr(source, "classes", None), name)
    conditions = torch.stack(vectors) if len(vectors[0]) else None
    return Images(cast(Tensor, items), torch.tensor(found), classes, name, values=values, conditions=conditions)


def _array(image: Any, name: str) -> npt.NDArray[Any]:
    if isinstance(image, Image.Image):
        pixels = np.asarray(image)
        return pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    if isinstance(image, Tensor):
        return image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return image
    raise UserError(
        f"{name} is an object of type {type(image).__name__}, and an image is an array, a tensor or a picture of "
        "Pillow, alone or first in a tuple with its label."
    )


def _pixels(image: Any, layout: str, name: str) -> Tensor:
    array = _array(image, name)
    if array.ndim != (2 if layout == "HW" else 3):
        raise UserError(f"{name} has the shape {array.shape}, and item 0 has the axes {layout}; give all the same.")
    check_dtype(array.dtype, name)
    pixels = channels_first(array.astype(array.dtype.newbyteorder("="), copy=False), layout)
    return torch.from_numpy(np.array(pixels, order="C"))  # a copy, which can be written


def _label(label: Any, i: int, name: str) -> int:
    if label is None:
        return 0
    try:
        number = label.item() if hasattr(label, "item") else label
        if isinstance(number, int):
            return int(number)
    except (ValueError, RuntimeError):  # an array of several numbers
        pass
    raise UserError(f"The label of item {i} of {name} must be a whole number; got {label!r:.40}.")


def _named(labels: Sequence[int], names: Any, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Return labels as indices into names of classes: those of the data set, as in torchvision, or the numbers."""
    if isinstance(names, list | tuple) and min(labels) >= 0 and max(labels) < len(names):
        return list(labels), tuple(map(str, names))
    known = sorted(set(labels))
    if len(known) == 1:
        return [0] * len(labels), (name if known == [0] else str(known[0]),)
    index = {label: i for i, label in enumerate(known)}
    return [index[label] for label in labels], tuple(map(str, known))


def _dataset_of(loader: "DataLoader[Any]") -> "Dataset[Any]":
    """Return the data set of a loader. Raises `UserError` for a loader that does more than to shuffle and to batch."""
    own = type(loader.sampler) not in (RandomSampler, SequentialSampler) or loader.collate_fn is not default_collate
    if own and not isinstance(loader.dataset, IterableDataset):
        raise UserError(
            "The DataLoader has a sampler or a collate_fn of its own, which a training does not use, as its plan "
            "decides the batches; give the data set that they make, e.g. a torch.utils.data.Subset."
        )
    return loader.dataset
