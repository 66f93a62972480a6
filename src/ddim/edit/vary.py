"""Variations of an image, or of two: noise to a level, and sampling from there (SDEdit, arXiv 2108.01073)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddim.contract import check_batch, check_finite, check_range, check_vectors, labels_of, warn_of_student
from ddim.device import evaluating
from ddim.edit.operators import Mask
from ddim.errors import UserError, number
from ddim.forward import q_sample
from ddim.noise import ImageNoise
from ddim.samplers import trajectory

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser


@torch.no_grad()
def vary(
    model: "Denoiser",
    x0: Tensor,
    strength: float,
    *,
    seed: int = 0,
    count: int = 1,
    labels: Sequence[int] | Tensor | None = None,
    guidance: float = 1.0,
    clip: bool = True,
    conditions: Any = None,
    **options: Any,
) -> Tensor:
    """Return variations of images, (B, count, C, H, W) on the CPU, float32: x_t is drawn, and x_0 sampled from it.

    Variation j of image i takes the noise of image i count + j of the seed.

    Args:
        model: on the device to use.
        x0: clean images, (B, C, H, W) floats, in [-1, 1] unless the model has `sampling.clip` = False.
        strength: share of the steps that are taken, above 0 and at most 1; their number is rounded up. Near 0 only
            details change. At 1 the image is forgotten, except for the signal that is left at t = T.
        seed, count, clip: as for `ddim.edit.restore`.
        labels: (B,) the class of each variation, or -1 for "any"; None is "any" for all.
        guidance: weight of classifier-free guidance; 1 is the model itself.
        conditions: (B, D) the vector of each image's variations, or (D,) one for all, see `ddim.Denoiser.sample`.
        options: steps, sampler, eta and spacing, see `ddim.sampling.SamplingOptions`. No preset is used.

    Raises:
        UserError: a strength out of range, images of another shape or range, or what `ddim.Denoiser.sample` refuses.
    """
    strength = number("The strength", strength, float, 0, 1, "a number above 0 and at most 1")
    count = number("count", count, int, 1)
    if not strength:
        raise UserError("The strength must be a number above 0 and at most 1; got 0, which changes nothing.")
    check_batch(x0, model.shape, "The images")
    if model.sampling.clip:  # otherwise the images may have any range, as latents do
        check_range(x0)
    labels = labels_of(model, labels, len(x0))
    vectors = check_vectors(model, conditions, len(x0))
    warn_of_student(model, "varying images")
    sampler, levels = model.sampling.resolve(model.schedule, **options)
    taken = max(1, math.ceil(strength * (len(levels) - 1) - 1e-9))  # 0.28 * 25 is 7.000000000000001
    levels = levels[-1 - taken :]
    try:
        start = x0.to(model.device, model.image_dtype).repeat_interleave(count, 0)
    except (RuntimeError, ValueError) as error:  # PyTorch has no type of its own for this
        raise UserError(f"{count} variations of {len(x0)} images do not fit in memory; ask for fewer.") from error
    noise = ImageNoise(seed, range(len(start)))
    label, vector = (None if one is None else one.repeat_interleave(count, 0) for one in (labels, vectors))
    denoise = model.denoise(label, guidance, clip, conditions=vector)
    with evaluating(model.network):
        x = q_sample(start, levels[0], noise(start))
        *_, x = trajectory(sampler, denoise, x, levels, noise, model.schedule)
    x = check_finite(x.clamp(-1, 1) if clip and model.sampling.clip else x)
    return x.float().cpu().reshape(len(x0), count, *model.shape)


def blend(
    model: "Denoiser",
    first: Tensor,
    second: Tensor,
    strength: float,
    *,
    weight: float = 0.5,
    mask: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Return blends of pairs of images, (B, count, C, H, W) on the CPU, float32: variations of their mixture.

    The mixture is of pixels, and the model makes an image of it: of (1 - weight) first + weight second as DDPM
    interpolates (arXiv 2006.11239, section 4.3, with one noise for both images), and of a collage by a mask as SDEdit
    composes images (arXiv 2108.01073). `ddim.edit.interpolate` mixes codes instead, and keeps both ends.

    Args:
        model, strength, options: as for `vary`.
        first, second: clean images in [-1, 1], (B, C, H, W) each.
        weight: of the second image, from 0 to 1.
        mask: (H, W), (1, H, W) or (C, H, W), 1 where the mixture shows the second image and 0 where it shows the first;
            in place of the weight.

    Raises:
        UserError: images of different shapes, a weight or a mask out of range, both, or what `vary` refuses.
    """
    return vary(model, mixture(first, second, weight, mask), strength, **options)


def mixture(first: Tensor, second: Tensor, weight: float = 0.5, mask: Tensor | None = None) -> Tensor:
    """Return the mixture of images that `blend` starts from; the arguments and errors are its own."""
    weight = number("The weight of a blend", weight, float, 0, 1)
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        given = " and ".join(
            str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in (first, second)
        )
        raise UserError(f"A blend needs two tensors of images of one shape; got {given}.")
    if mask is None:
        return (1 - weight) * first + weight * second
    if weight != 0.5:
        raise UserError("weight and mask are two ways to blend; give one of them.")
    collage = Mask(mask)
    collage.measured(first.shape[1:])
    return torch.where(collage.mask.to(first.device), second, first)
