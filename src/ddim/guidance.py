"""Wrappers that turn one `Denoise` function into another; they compose, and work with every sampler."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Return a `Denoise` with the predicted x0 clipped to [low, high] and eps recomputed from it.

    With the old eps the pair would not be consistent with x_t. Clipping x_t instead would be wrong, as noise lies
    outside [-1, 1]. The default range is that of clean images.
    """

    def clipped(x: Tensor, at: Level) -> Prediction:
        return from_x0(x, at, denoise(x, at).x0.clamp(low, high))

    return clipped


def classifier_free(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Return a `Denoise` with classifier-free guidance: eps = eps_u + w (eps_c - eps_u) (arXiv 2207.12598, Eq. 6).

    w = 1 is the conditional model, w > 1 strengthens the condition. The paper's own weight is w - 1. x0 is combined
    in the same way and stays consistent with eps, as the two are linear in each other at a given x_t.

    Args:
        conditional: the prediction given the label.
        unconditional: the prediction without a label; called after the other at each level.
        weight: w, any number; 0 is the unconditional model.
    """

    def guided(x: Tensor, at: Level) -> Prediction:
        return _guided(conditional(x, at), unconditional(x, at), weight)

    return guided


def classifier_free_in_one_call(
    predict: Callable[[Tensor, Level, Tensor | None], Prediction], labels: Tensor | None, null: int, weight: float
) -> Denoise:
    """Return the same `Denoise` as `classifier_free`, with one call of twice the batch in place of two calls.

    Args:
        predict: the prediction given x_t, the level and the label of each image.
        labels: (B,) classes; None is `null` for all.
        null: the label of the unconditional model.
        weight: w, see `classifier_free`.
    """

    def guided(x: Tensor, at: Level) -> Prediction:
        without = torch.full((len(x),), null, device=x.device)
        both = torch.cat([without if labels is None else labels.to(without), without])
        twice = Level(*(torch.cat([one, one]) if one.ndim else one for one in at))  # one level per image or for all
        x0, eps = predict(torch.cat([x, x]), twice, both)
        rows = len(x)
        return _guided(Prediction(x0[:rows], eps[:rows]), Prediction(x0[rows:], eps[rows:]), weight)

    return guided


def _guided(conditional: Prediction, unconditional: Prediction, weight: float) -> Prediction:
    return Prediction(*(u + weight * (c - u) for c, u in zip(conditional, unconditional, strict=True)))
