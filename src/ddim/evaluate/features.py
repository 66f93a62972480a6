"""From images to features: one interpretation of pixels, batches, and a cache for reference images."""

import contextlib
import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from ddim.contract import check_range
from ddim.data import Images, to_uint8
from ddim.data.download import cache_folder
from ddim.errors import UserError
from ddim.evaluate.extractors import Extractor
from ddim.files import write_bytes
from ddim.progress import bar
from ddim.text import dimensions

BATCH_NUMBERS = 1 << 15  # numbers in a batch of images, so that intermediate results stay in the processor's cache

Pictures = Tensor | NDArray[Any] | Images


def as_pixels(images: Pictures) -> Tensor:
    """Return images of any source as pixels in 256 grey levels, the form that extractors take.

    Args:
        images: (N, C, H, W). uint8 stays as it is; floats must be in [-1, 1] and are rounded to the nearest level.
            The images of a data set with other grey levels, and arrays, are brought to 256.

    Returns:
        (N, C, H, W) uint8 on the CPU.

    Raises:
        UserError: no images, another number of dimensions, another dtype, or floats that are not finite or not in
            [-1, 1].
    """
    if isinstance(images, Images):
        if images.values is None and images.grey_levels == 256:
            return images.pixels
        rows = torch.split(torch.arange(len(images)), 1000)  # all in float32 may not fit in memory
        return torch.cat([to_uint8(images.batch(part)[0]) for part in rows])
    if images.ndim != 4 or not len(images):
        raise UserError(f"Images must have the shape (N, C, H, W), N at least 1; these have {tuple(images.shape)}.")
    if isinstance(images, np.ndarray):
        allowed = images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)
    else:
        allowed = images.dtype == torch.uint8 or images.is_floating_point()
    if not allowed:
        raise UserError(f"Pixels must be uint8, or floats in [-1, 1], not {images.dtype}; convert them.")
    if isinstance(images, np.ndarray):
        kind = np.uint8 if images.dtype == np.uint8 else np.float32
        images = torch.from_numpy(np.array(images, kind, order="C"))  # a copy: it may be read-only or mirrored
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    images = images.float()
    check_range(images)
    return to_uint8(images)


def take(images: Pictures, rows: Tensor) -> Pictures:
    """Return the images at `rows`."""
    if isinstance(images, Images):
        return replace(images, pixels=images.pixels[rows], labels=images.labels[rows], conditions=None)
    return torch.as_tensor(images)[rows]


def features(extractor: Extractor, images: Pictures) -> NDArray[np.float64]:
    """Return the features of images, (N, F). The images are as for `as_pixels`, and so are the errors.

    Raises:
        UserError: also for images of another shape than the extractor's.
    """
    pixels = as_pixels(images)
    if tuple(pixels.shape[1:]) != tuple(extractor.shape):
        expected, given = map(dimensions, (extractor.shape, pixels.shape[1:]))
        raise UserError(
            f"These images are of {given}, and {extractor.name} was made for {expected}; get it for {given}."
        )
    parts = []
    with bar(total=len(pixels), desc=extractor.name, unit="image") as shown:
        for batch in torch.split(pixels, max(1, BATCH_NUMBERS // math.prod(extractor.shape))):
            parts.append(extractor(batch).double().numpy())
            shown.update(len(batch))
    return np.concatenate(parts)


def cached_features(extractor: Extractor, images: Pictures) -> NDArray[np.float64]:
    """Return `features`, and keep them in the cache folder ($DDIM_CACHE, otherwise ~/.cache/ddim).

    The key is made of the pixels, their shape and the extractor's fingerprint. A damaged file is computed again. If
    the folder cannot be written, nothing is cached. Arguments and errors are those of `features`.
    """
    pixels = as_pixels(images)
    key = hashlib.sha256(f"{extractor.fingerprint} {tuple(pixels.shape)} ".encode())
    key.update(pixels.contiguous().numpy().data)
    path = cache_folder() / "features" / f"{extractor.name}-{key.hexdigest()}.safetensors"
    with contextlib.suppress(Exception):  # a damaged file may raise anything
        tensors = load(path.read_bytes())
        cached: NDArray[np.float64] = tensors["features"]
        if np.array_equal(tensors["sha256"], _checksum(cached)):
            return cached
    computed = features(extractor, pixels)
    with contextlib.suppress(UserError):
        write_bytes(path, save({"features": computed, "sha256": _checksum(computed)}))
    return computed


def _checksum(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the SHA-256 of an array with its type and shape, (32,)."""
    digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).digest()
    return np.frombuffer(digest, np.uint8)
