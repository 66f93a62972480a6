"""Wrappers that turn one `Denoise` function into another; they compose, and work with every sampler."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ddim.errors import Notice, UserError, number, shown
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, math.inf)


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Return a `Denoise` with the predicted x0 clipped to [low, high] and eps recomputed from it.

    With the old eps the pair would not be consistent with x_t. Clipping x_t instead would be wrong, as noise lies
    outside [-1, 1]. The default range is that of clean images.
    """

    def clipped(x: Tensor, at: Level) -> Prediction:
        return from_x0(x, at, denoise(x, at).x0.clamp(low, high))

    return clipped


def classifier_free(
    conditional: Denoise, unconditional: Denoise, weight: float, interval: Interval = EVERYWHERE
) -> Denoise:
    """Return a `Denoise` with classifier-free guidance: eps = eps_u + w (eps_c - eps_u) (arXiv 2207.12598, Eq. 6).

    w = 1 is the conditional model, w > 1 strengthens the condition. The paper's own weight is w - 1. x0 is combined
    in the same way and stays consistent with eps, as the two are linear in each other at a given x_t.

    In an interval of noise levels (arXiv 2404.07724, Eq. 6) the weight is w if low < sigma / alpha <= high, and 1
    otherwise. Outside the interval, the conditional model alone is called.

    Args:
        conditional: the prediction given the label.
        unconditional: the prediction without a label; called after the other at each level.
        weight: w, any number; 0 is the unconditional model; with 1 it is not called.
        interval: (low, high) of sigma / alpha, the noise level for images in [-1, 1]: EDM's sigma. 0 <= low < high,
            and high may be infinite; the default guides at every level.

    Raises:
        UserError: an interval that is empty or reversed, or a number below 0.
    """
    return _guided(conditional, unconditional, weight, interval)


def autoguidance(strong: Denoise, weak: Denoise, weight: float, interval: Interval = EVERYWHERE) -> Denoise:
    """Return a `Denoise` with autoguidance: D = D_weak + w (D_strong - D_weak) (arXiv 2406.02507).

    D is the predicted x0. The weak model has the errors of the strong one, but larger, e.g. because it was trained
    for a shorter time on the same images; guidance leads away from them. No classes are needed.

    Args:
        strong: the model to guide, with its label if it has one.
        weak: the model to lead away from, with the same label; called after the other at each level.
        weight: w; 1 is the strong model itself, bit for bit, and the weak one is not called.
        interval: see `classifier_free`, which has the same errors. Outside it, the strong model alone is called.
    """
    return _guided(strong, weak, weight, interval)


def classifier_free_in_one_call(
    predict: Callable[[Tensor, Level, Tensor | None], Prediction],
    labels: Tensor | None,
    null: int,
    weight: float,
    interval: Interval = EVERYWHERE,
) -> Denoise:
    """Return the same `Denoise` as `classifier_free`, with one call of twice the batch in place of two calls.

    Args:
        predict: the prediction given x_t, the level and the label of each image, None for `null`.
        labels: (B,) classes; None is `null` for all.
        null: the label of the unconditional model.
        weight, interval: see `classifier_free`. At a level outside the interval, the call has the batch itself.
    """
    interval = check_interval(interval)
    if weight == 1:
        return lambda x, at: predict(x, at, labels)

    def guided(x: Tensor, at: Level) -> Prediction:
        inside = contains(interval, at)
        if _nowhere(inside):
            return predict(x, at, labels)
        without = torch.full((len(x),), null, device=x.device)
        both = torch.cat([without if labels is None else labels.to(without), without])
        twice = Level(*(torch.cat([one, one]) if one.ndim else one for one in at))  # one level per image or for all
        x0, eps = predict(torch.cat([x, x]), twice, both)
        rows = len(x)
        return _combined(Prediction(x0[:rows], eps[:rows]), Prediction(x0[rows:], eps[rows:]), weight, inside)

    return guided


def check_interval(interval: Any) -> Interval:
    """Return an interval of noise levels sigma / alpha as two floats.

    Raises:
        UserError: anything but two numbers with 0 <= low < high.
    """
    try:
        low, high = interval
        low = number("low", low, float, 0)
        high = math.inf if high == math.inf else number("high", high, float)
        fits = low < high
    except (TypeError, ValueError, UserError):
        fits = False
    if not fits:
        raise UserError(
            "The guidance interval must be two noise levels sigma / alpha, low and high, with 0 <= low < high, e.g. "
            f"0.3 and 5; got {shown(interval)}."
        )
    return low, high


def contains(interval: Interval, at: Level) -> Tensor:
    """Return whether low < sigma / alpha <= high: a bool on the CPU, or (B, 1, 1, 1) with one level per image."""
    low, high = interval
    ratio = at.sigma / at.alpha
    return (low < ratio) & (ratio <= high)


def in_words(weight: float, interval: Interval | None = None) -> str:
    """Return a weight and an interval as text, e.g. "guidance 2 at sigma / alpha from 0.3 to 5"."""
    return f"guidance {weight:g}{interval_in_words(interval)}"


def interval_in_words(interval: Interval | None) -> str:
    """Return an interval as text, e.g. " at sigma / alpha from 0.3 to 5"; "" for every level."""
    return "" if interval is None else f" at sigma / alpha from {interval[0]:g} to {interval[1]:g}"


def share(interval: Interval, levels: Sequence[Level]) -> float:
    """Return the share of the levels that lie in the interval; warn with a `Notice` if it is 0."""
    inside = sum(bool(contains(interval, at)) for at in levels)
    if not inside:
        most, least = (float(at.sigma / at.alpha) for at in (levels[0], levels[-1]))
        warnings.warn(
            f"No step starts in the guidance interval from {interval[0]:g} to {interval[1]:g}, so no image is guided; "
            f"widen it: sigma / alpha of the {len(levels)} steps falls from {most:.3g} to {least:.3g}.",
            Notice,
            stacklevel=4,
        )
    return inside / len(levels)


def _guided(main: Denoise, guide: Denoise, weight: float, interval: Interval) -> Denoise:
    interval = check_interval(interval)
    if weight == 1:
        return main

    def guided(x: Tensor, at: Level) -> Prediction:
        inside, prediction = contains(interval, at), main(x, at)
        return prediction if _nowhere(inside) else _combined(prediction, guide(x, at), weight, inside)

    return guided


def _nowhere(inside: Tensor) -> bool:
    """Return whether no image is guided; levels per image may lie on a device, where their values are not read."""
    return not inside.ndim and not inside


def _combined(main: Prediction, guide: Prediction, weight: float, inside: Tensor) -> Prediction:
    guided = Prediction(*(g + weight * (m - g) for m, g in zip(main, guide, strict=True)))
    if not inside.ndim:
        return guided
    inside = inside.to(main.x0.device)
    return Prediction(*(torch.where(inside, one, m) for one, m in zip(guided, main, strict=True)))
