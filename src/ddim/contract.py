"""What a model, its network, its images and its labels must agree on. Every such comparison is in this file."""

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddim.data.images import Images, check_images
from ddim.errors import Notice, UserError, number, shown
from ddim.guidance import EVERYWHERE, Interval, check_interval
from ddim.nets import networks
from ddim.schedule import Schedule

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser

NULL = -1  # the label that stands for "any class"
Labels = Sequence[int] | Tensor  # one class per image, or NULL
ROUNDED = 1 + 1 / 255  # up to half a grey level above 1 still rounds to white


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return (C, H, W) as a tuple. Raises `UserError` for anything but three whole numbers above 0."""
    if not hasattr(shape, "__len__") or len(shape) != 3:
        raise UserError(f"The shape of an image is three whole numbers above 0, (C, H, W); got {shown(shape)}.")
    return tuple(number("Each number of the shape (C, H, W)", side, int, 1) for side in shape)


def check_predicts(predicts: str, schedule: Schedule) -> None:
    """Raise `UserError` for "eps" on a schedule that ends at alpha_T = 0, where x0 cannot be computed from eps."""
    if predicts == "eps" and schedule.alpha_bar[-1] == 0:
        raise UserError(
            "A network that predicts eps cannot be used on a schedule with alpha_T = 0, where x_T contains no signal; "
            "let it predict 'v', 'x0' or 'flow'."
        )


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
            f"The network must be a torch.nn.Module; got {shown(network)}. Create the module, or write one whose "
            f"forward calls your function: a model calls it as {call}."
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
        raise UserError(f"labels must be {allowed}; got {shown(labels)}.") from error
    return torch.tensor([number("labels", label, int, NULL, classes - 1, allowed) for label in given], dtype=torch.long)


def labels_of(model: "Denoiser", labels: Any, count: int | None) -> Tensor | None:
    """Return the labels of a call of a model as `check_labels` does; None for None.

    Raises:
        UserError: what `check_labels` refuses, or labels for a model without classes.
    """
    if labels is None:
        return None
    if model.classes is None:
        raise UserError("This model was trained without classes: leave the labels out.")
    return check_labels(labels, model.classes, count)


def check_conditions(
    model: "Denoiser",
    labels: Any,
    count: int | None,
    guidance: Any = 1.0,
    interval: Any = None,
    weak: Any = None,
) -> tuple[Tensor | None, float, Interval]:
    """Return the labels on the model's device, None for "any", the weight of guidance and its interval.

    Warn if the model never saw the null class, and the labels or the guidance need it.

    Args:
        model: the model.
        labels, guidance, interval, weak: see `Denoiser.sample`.
        count: B; None takes any number of labels.

    Raises:
        UserError: what `check_labels` refuses, labels or classifier-free guidance for a model without classes, an
            interval that is empty, reversed or above the noise of the schedule, or a weak model that does not fit.
    """
    guidance = number("guidance", guidance, float)
    interval = EVERYWHERE if interval is None else check_interval(interval)
    most = (-model.schedule.log_snr[-1] / 2).exp().item()
    if interval[0] >= most:
        raise UserError(
            f"The guidance interval from {interval[0]:g} to {interval[1]:g} lies above every noise level of the model, "
            f"whose sigma / alpha is at most {most:.4g}; lower it."
        )
    if weak is not None:
        _check_weak(model, weak)
    given = labels_of(model, labels, count)
    if model.classes is None:
        if guidance != 1 and weak is None and model.conditions is None:
            raise UserError(
                f"guidance must be 1 for a model without classes, unless a weak model guides it; got {guidance:g}."
            )
        return None, guidance, interval
    free = guidance != 1 and weak is None
    if not model.null_class and (free or given is None or NULL in given):
        need = "guidance" if free else "the label -1, any class,"
        warnings.warn(
            f"This model never saw the null class (it was trained with label_dropout = 0), and {need} needs it: "
            "expect poor images. Give a class for each image and no guidance, or train with a label_dropout.",
            Notice,
            stacklevel=4,
        )
    return None if given is None else given.to(model.device), guidance, interval


def warn_of_student(model: "Denoiser", use: str) -> None:
    """Give a `Notice` if a model is distilled: its prediction is an image, not the mean that `use` needs."""
    if model.sampling.times:
        warnings.warn(
            f"This model was distilled to draw images in few network calls, which makes it poor at {use}: take the "
            "model that it was distilled from.",
            Notice,
            stacklevel=4,
        )


def _check_weak(model: "Denoiser", weak: Any) -> None:
    """Raise `UserError` unless a weak model takes the images, the labels and the levels of a model."""
    try:
        theirs = weak.shape, weak.classes, weak.conditions, weak.schedule.log_snr.tolist()
        device = weak.device
    except AttributeError:
        raise UserError(
            f"The weak model must be a ddim.Denoiser, e.g. ddim.load(run, checkpoint=step); got {shown(weak)}."
        ) from None
    own = model.shape, model.classes, model.conditions, model.schedule.log_snr.tolist()
    names = "shape", "number of classes", "length of conditions", "schedule"
    for what, mine, other in zip(names, own, theirs, strict=True):
        if mine != other:
            values = "" if what == "schedule" else f", {other} and not {mine}"
            raise UserError(
                f"The weak model has another {what} than the model{values}; take an earlier checkpoint of the same run."
            )
    if device != model.device:
        raise UserError(f"The weak model is on {device}, and the model on {model.device}; move one with weak.to(...).")


def check_vectors(model: "Denoiser", conditions: Any, count: int | None) -> Tensor | None:
    """Return conditions on the model's device, (B, D) float32; None for the null vector.

    Args:
        model: the model.
        conditions: an array, a tensor or lists, (B, D), or (D,) for all images; a row of NaN is the null vector.
        count: B; None takes any number.

    Raises:
        UserError: conditions for a model without, or of another shape, or infinite.
    """
    if conditions is None:
        return None
    if model.conditions is None:
        raise UserError("This model was made without conditions: leave the conditions out.")
    try:
        vectors = torch.as_tensor(conditions, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"Conditions are an array of numbers; got {conditions!r:.40}.") from error
    given = tuple(vectors.shape)
    vectors = vectors.expand(count or 1, -1) if vectors.ndim == 1 else vectors
    rows = len(vectors) if count is None and vectors.ndim else count
    if vectors.shape != (rows, model.conditions) or vectors.isinf().any():
        raise UserError(
            f"Conditions are a vector of {model.conditions} finite numbers for each image, or one for all, and NaN for "
            f"any; got an array of shape {given}{' with infinite numbers' if vectors.isinf().any() else ''}."
        )
    return vectors.to(model.device)


def check_data(images: Images, shape: tuple[int, ...], classes: int | None, conditions: int | None = None) -> None:
    """Check a data set against a model. To a model without classes the labels do not matter.

    Args:
        images: the data set.
        shape, classes, conditions: (C, H, W), the number of classes, and the length of the vectors of the model.

    Raises:
        UserError: not an `Images`, images of another shape, another number of classes, or other vectors.
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
    if conditions is not None:
        length = None if images.conditions is None else images.conditions.shape[1]
        if length != conditions:
            has = "none" if length is None else f"vectors of {length}"
            raise UserError(
                f"The model takes conditions of {conditions} numbers, but {images.name} has {has}; make the model with "
                "the length of its conditions."
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


def check_finite(x: Tensor) -> Tensor:
    """Return what a network made. Raises `UserError` if a number in it is NaN or infinite."""
    if not x.isfinite().all():
        raise UserError("The network's output is NaN: its weights are broken; train it or copy it again.")
    return x


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
