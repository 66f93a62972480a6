"""The noise of given images, and back: `encode` and `decode`, methods of `ddim.Denoiser`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from ddim.contract import (
    Labels,
    check_batch,
    check_conditions,
    check_finite,
    check_range,
    check_vectors,
    warn_of_student,
)
from ddim.device import evaluating
from ddim.edit.exact import Implicit, check_plain, decode_exactly, encode_exactly
from ddim.edit.invert import invert
from ddim.errors import UserError, number
from ddim.samplers import Sampler, get, trajectory
from ddim.sampling import SamplingOptions

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser


def encode(
    model: "Denoiser",
    x0: Tensor,
    *,
    labels: Labels | None = None,
    exact: bool = False,
    refine: int = 0,
    conditions: Any = None,
    **options: Unpack[SamplingOptions],
) -> Tensor:
    """Return the noise x_T, (B, C, H, W), from which a deterministic sampler makes `x0` (DDIM, section 5.4).

    The result is exact up to the error of the sampler's steps. It is on the model's device, in its `image_dtype`.

    Args:
        model: the model.
        x0: clean images, (B, C, H, W) floats, in [-1, 1] unless the model has `sampling.clip` = False.
        labels: (B,) the class of each image, or -1 for "any"; None is "any" for all. Give the images' own classes
            where you know them, and the same to `decode`: with another label the image does not come back.
        exact: whether to return a code that `decode(code, exact=True)` turns back into `x0` up to rounding, with
            the same options: two states of O-BELM, (B, 2, C, H, W) in float64. See `ddim.edit.OBELM`.
        refine: number of fixed-point iterations of each step of DDIM, see `ddim.edit.Implicit`. The noise then
            decodes to `x0` with a smaller error.
        conditions: (B, D) the vector of each image, or (D,) one for all, see `ddim.Denoiser.sample`; the same to
            `decode`.
        options: steps, sampler and spacing, see `ddim.sampling.SamplingOptions`. The sampler must be
            deterministic; None is DDIM with eta = 0. Nothing is clipped.

    Raises:
        UserError: a stochastic sampler, images of another shape or range, both `exact` and `refine`, either with a
            sampler other than DDIM, or what `sample` refuses.
    """
    check_batch(x0, model.shape, "The images")
    if model.sampling.clip:  # otherwise the images may have any range, as latents do
        check_range(x0)
    refine = number("refine", refine, int, 0, 1000)
    if exact and refine:
        raise UserError("exact and refine are two ways to invert; give one of them.")

    def refined(sampler: Sampler, *arguments: Any, **more: Any) -> Iterator[Tensor]:
        check_plain(sampler, "A refined inversion is DDIM's")
        return invert(Implicit(refine), *arguments, **more)

    return _solve(
        model, encode_exactly if exact else refined if refine else invert, x0, labels, conditions, options, exact
    )


def decode(
    model: "Denoiser",
    xT: Tensor,
    *,
    labels: Labels | None = None,
    exact: bool = False,
    conditions: Any = None,
    **options: Unpack[SamplingOptions],
) -> Tensor:
    """Return the images that a deterministic sampler makes from `xT`, (B, C, H, W): the inverse of `encode`.

    See `encode` for the labels, conditions, options and errors. With `exact`, `xT` is a code of `encode(exact=True)`.
    `ddim.forward.start` makes x_T of standard normal noise: on EDM's schedule x_T has a std of 80.
    """
    check_batch(xT, (2, *model.shape) if exact else model.shape, "The code" if exact else "The noise")
    return _solve(model, decode_exactly if exact else trajectory, xT, labels, conditions, options, exact)


@torch.no_grad()
def _solve(
    model: "Denoiser",
    solve: Callable[..., Iterator[Tensor]],
    x: Tensor,
    labels: Labels | None,
    conditions: Any,
    options: SamplingOptions,
    exact: bool = False,
) -> Tensor:
    """Run `invert`, `trajectory` or the like from `x` to its end, without clipping and without noise."""
    if options.get("sampler") is None:
        options = {**options, "sampler": get("ddim", eta=options.get("eta") or 0.0), "eta": None}
    method, levels = model.sampling.resolve(model.schedule, **options)
    given, *_ = check_conditions(model, labels, len(x))
    vectors = check_vectors(model, conditions, len(x))
    warn_of_student(model, "encoding images and decoding codes")
    denoise = model._denoise(model.network, given, clip=False, conditions=vectors)
    dtype = torch.float64 if exact and model.device.type != "mps" else model.image_dtype  # Apple's GPUs have none
    with evaluating(model.network):
        *_, end = solve(method, denoise, x.to(model.device, dtype), levels, schedule=model.schedule)
    return check_finite(end)
