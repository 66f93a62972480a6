"""Wrappers that turn one `Denoise` into another: they compose, and no sampler knows of them."""

from torch import Tensor

from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Clip the predicted clean image to [low, high] and recompute eps from it, so that the two still agree.

    Clipping x0 and keeping the old eps would leave a pair that no x_t has; clipping x_t is wrong altogether,
    since noise lies outside [-1, 1].

    Args:
        denoise: what to wrap.
        low, high: the range of images.
    """

    def clipped(x: Tensor, at: Level) -> Prediction:
        return from_x0(x, at, denoise(x, at).x0.clamp(low, high))

    return clipped


def classifier_free(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """eps = eps_u + w (eps_c - eps_u): w = 1 is the conditional model, w > 1 insists (arXiv 2207.12598, Eq. 6).

    That paper counts from the conditional model: its weight is w - 1. The clean image is combined alike,
    which keeps it consistent with eps, as both are linear in each other at a given x_t.

    Args:
        conditional: told the label.
        unconditional: told none. The two are called one after the other, at each level.
        weight: w, any number; 0 is the unconditional model.
    """

    def guided(x: Tensor, at: Level) -> Prediction:
        with_label, without = conditional(x, at), unconditional(x, at)
        return Prediction(*(u + weight * (c - u) for c, u in zip(with_label, without, strict=True)))

    return guided
