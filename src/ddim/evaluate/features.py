"""From images to features: one reading of what pixels mean, batches, and a cache for what one compares with."""

import contextlib
import hashlib
import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from ddim.data import Images, to_uint8
from ddim.data.download import cache_folder
from ddim.errors import Notice, UserError
from ddim.evaluate.extractor import Extractor
from ddim.files import write_bytes

AT_ONCE = 1 << 15  # numbers in a batch of images, so that what is made of it stays in the processor's cache
ROUNDED = 1 + 1 / 255  # beyond 1 by half a grey level is white still


def as_pixels(images: Tensor | NDArray[np.generic] | Images) -> Tensor:
    """Images of any source as pixels in 256 grey levels, the one form that is looked at.

    Args:
        images: (N, C, H, W); uint8 is taken as it is, floats are in [-1, 1] and rounded to the nearest level. Of a
            data set its images, in 256 levels if it has fewer.

    Returns:
        (N, C, H, W) uint8 on the CPU.

    Raises:
        UserError: no images, another number of dimensions or kind of number, a number that is not finite, or one
            outside of [-1, 1].
    """
    if isinstance(images, Images):
        if images.grey_levels == 256:
            return images.pixels
        return to_uint8(images.batch(torch.arange(len(images)))[0])
    if images.ndim != 4 or not len(images):
        raise UserError(f"Images have the shape (N, C, H, W), N at least 1; these have {tuple(images.shape)}.")
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise _unknown(images.dtype)
        kind = np.uint8 if images.dtype == np.uint8 else np.float32
        images = torch.from_numpy(np.array(images, kind, order="C"))  # a copy: it may be read-only or mirrored
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise _unknown(images.dtype)
    images = images.float()
    low, high = (bound.item() for bound in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("Some pixels are no finite numbers; look for where the sampling went wrong.")
    if max(-low, high) > ROUNDED:
        raise UserError(
            f"Pixels from {low:.4g} to {high:.4g} are not in [-1, 1]; clamp them, or give grey levels as uint8."
        )
    if low >= 0:
        warnings.warn(
            "No pixel is below 0, the grey between black and white; if these images are in [0, 1], give 2 x - 1.",
            Notice,
            stacklevel=2,
        )
    return to_uint8(images)


def features(
    extractor: Extractor, images: Tensor | NDArray[np.generic] | Images, *, progress: bool = True
) -> NDArray[np.float64]:
    """What an extractor sees in images, (N, F).

    Args:
        extractor: of `ddim.evaluate.extractor`.
        images: as `as_pixels` takes them.
        progress: whether to show a bar.

    Raises:
        UserError: as `as_pixels`, or images of another shape than the extractor's.
    """
    pixels = as_pixels(images)
    if tuple(pixels.shape[1:]) != tuple(extractor.shape):
        wanted, given = ("x".join(map(str, one)) for one in (extractor.shape, pixels.shape[1:]))
        raise UserError(
            f"These images are of {given}, and {extractor.name} was made for {wanted}; get it for {given}."
        )
    parts = []
    with tqdm(total=len(pixels), desc=extractor.name, unit="image", disable=None if progress else True) as bar:
        for some in torch.split(pixels, max(1, AT_ONCE // math.prod(extractor.shape))):
            parts.append(extractor(some).double().numpy())
            bar.update(len(some))
    return np.concatenate(parts)


def kept_features(
    extractor: Extractor, images: Tensor | NDArray[np.generic] | Images, *, progress: bool = True
) -> NDArray[np.float64]:
    """`features`, kept for the next time in the cache folder ($DDIM_CACHE, else ~/.cache/ddim).

    They are found again by the pixels, their shape and the extractor's fingerprint. A damaged file is made anew;
    if the folder cannot be written, nothing is kept. Arguments and errors as `features`.
    """
    pixels = as_pixels(images)
    about = hashlib.sha256(f"{extractor.fingerprint} {tuple(pixels.shape)} ".encode())
    about.update(pixels.contiguous().numpy().data)
    path = cache_folder() / "features" / f"{extractor.name}-{about.hexdigest()}.safetensors"
    with contextlib.suppress(OSError, SafetensorError), safe_open(path, "np") as file:
        found: NDArray[np.float64] = file.get_tensor("features")
        if file.metadata() == {"sha256": hashlib.sha256(found.tobytes()).hexdigest()}:
            return found
    made = features(extractor, pixels, progress=progress)
    checksum = hashlib.sha256(made.tobytes()).hexdigest()
    with contextlib.suppress(UserError):
        write_bytes(path, save({"features": made}, metadata={"sha256": checksum}))
    return made


def _unknown(dtype: object) -> UserError:
    return UserError(f"Pixels are uint8, or floats in [-1, 1], not {dtype}; convert them.")
