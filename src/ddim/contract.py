"""What a model, its network, its images and its labels must agree on. Every such comparison is in this file."""

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddim.data.images import Images, check_images
from ddim.errors import Notice, UserError, number
from ddim.nets import networks

NULL = -1  # the label that stands for "any class"
Labels = Sequence[int] | Tensor  # one class per image, or NULL
ROUNDED = 1 + 1 / 255  # up to half a grey level above 1 still rounds to white


def check_network(network: Any, shape: tuple[int, ...], classes: int | None) -> None:
    """Check a network against its model, as far as the network tells.

    Args:
        network: any object. A registered network tells its channels and classes, another one its arguments.
        shape, classes: (C, H, W) and the number of classes of the model.

    Raises:
        UserError: not a module, other arguments than a model calls it with, or other channels or classes.
    """
    call = "network(x, t)" if classes is None else "network(x, t, label)"
    if not isinstance(network, nn.Module):
        raise UserError(
            f"The network must be a torch.nn.Module; got {network!r}. Create the module, or write one whose forward "
            f"calls your function: a model calls it as {call}."
        )
    signature = inspect.signature(network.forward)
    try:
        signature.bind(*call[len("network(") : -1].split(", "))
    except TypeError as error:
        raise UserError(
            f"A model {'without classes' if classes is None else f'with {classes} classes'} calls {call}, but forward "
            f"of {type(network).__name__} takes {signature} ({error}); change its arguments."
        ) from error
    config = getattr(network, "config", None)
    if not isinstance(config, dict) or config.get("name") not in networks:
        return
    for name, value in (("channels", shape[0]), ("classes", classes)):
        if config.get(name, value) != value:
            raise UserError(
                f"The network was built with {name} = {config[name]}, and the model has {name} = {value}; give both "
                "the same."
            )


def check_output(output: Any, x: Tensor) -> Tensor:
    """Return what a network returned for images `x`, (B, C, H, W), in the dtype of `x`.

    Raises:
        UserError: not a tensor of floats with the shape of `x`.
    """
    if not isinstance(output, Tensor):
        part = "its attribute sample" if isinstance(getattr(output, "sample", None), Tensor) else "the prediction alone"
        raise UserError(
            f"The network returned an object of type {type(output).__name__}, not a tensor; wrap it in a module whose "
            f"forward returns {part}."
        )
    if output.shape != x.shape or not output.is_floating_point():
        kind = "" if output.is_floating_point() else f" of {output.dtype}"
        raise UserError(
            f"The network returned {tuple(output.shape)}{kind} for images {tuple(x.shape)}; it must return one float "
            "per number of the images, so leave out a second half of the channels that predicts a variance."
        )
    return output.to(x.dtype)


def check_labels(labels: Any, classes: int, count: int | None = None) -> Tensor:
    """Return labels as a tensor, (B,) int64.

    Args:
        labels: a sequence, an array or a tensor of whole numbers of any type, from -1 to `classes` - 1.
        classes: number of classes of the model.
        count: B; None takes any.

    Raises:
        UserError: labels of another number, or one that is not a class or -1.
    """
    many = "one label per image" if count is None else f"{count} labels, one per image"
    allowed = f"{many}, classes from 0 to {classes - 1}, or {NULL} for any class"
    try:
        given = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        if count not in (None, len(given)):
            raise UserError(f"labels must be {allowed}; got {len(given)} labels.")
    except TypeError as error:
        raise UserError(f"labels must be {allowed}; got {labels!r}.") from error
    return torch.tensor([number("labels", label, int, NULL, classes - 1, allowed) for label in given], dtype=torch.long)


def check_data(images: Images, shape: tuple[int, ...], classes: int | None) -> None:
    """Check a data set against a model. To a model without classes the labels do not matter.

    Args:
        images: the data set.
        shape, classes: (C, H, W) and the number of classes of the model.

    Raises:
        UserError: not an `Images`, images of another shape, or another number of classes.
    """
    check_images(images)
    if images.shape != shape:
        raise UserError(
            f"The model has images of shape {shape}, but those of {images.name} are {images.shape}; make the model "
            "with shape=images.shape, or take the data set that it was trained on, at the same size."
        )
    if classes is not None and len(images.classes) != classes:
        raise UserError(
            f"The model knows {classes} classes, but {images.name} has {len(images.classes)}; make the model with "
            "as many classes, or select those that it was trained on."
        )


def check_batch(x: Any, shape: tuple[int, ...], what: str) -> None:
    """Check that `x` is a batch of at least one image or noise of a model, in floats that are finite.

    Args:
        x: the batch.
        shape: (C, H, W) of the model.
        what: what the batch is, for the error message: "The images" or "The noise".

    Raises:
        UserError: anything else.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.shape[1:] != shape or not len(x):
        given = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else f"an object of type {type(x).__name__}"
        pixels = isinstance(x, Tensor) and x.dtype == torch.uint8
        remedy = "bring pixels to [-1, 1] by x / 127.5 - 1" if pixels else "bring them to that form"
        raise UserError(
            f"{what} must be a float tensor (B, {', '.join(map(str, shape))}), as the model has them; got {given}: "
            f"{remedy}."
        )
    if not x.isfinite().all():
        raise UserError(f"{what} must be finite; some numbers are NaN or infinite. Look for where they come from.")


def check_range(images: Tensor) -> None:
    """Check that float images are in [-1, 1], up to half a grey level; no negative number is a `Notice`.

    Raises:
        UserError: numbers that are NaN, infinite or outside [-1, 1].
    """
    low, high = (bound.item() for bound in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("Some pixels are NaN or infinite, not finite; look for where the sampling diverged.")
    if max(-low, high) > ROUNDED:
        raise UserError(
            f"Pixels from {low:.4g} to {high:.4g} are not in [-1, 1]; clamp them, or bring grey levels there by "
            "x / 127.5 - 1 (metrics also take them as uint8)."
        )
    if low >= 0:
        text = "No pixel is below 0, which is mid-grey; if these images are in [0, 1], pass 2 x - 1."
        warnings.warn(text, Notice, stacklevel=3)
