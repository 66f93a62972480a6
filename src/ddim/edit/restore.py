"""Restoration: samples of a model's images that agree with a measurement."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddim.contract import check_vectors, labels_of, warn_of_student
from ddim.device import evaluating
from ddim.edit.operators import Mask, Operator, check_measurement
from ddim.edit.posterior import methods, posterior
from ddim.edit.resample import Resample
from ddim.errors import UserError, number
from ddim.forward import start
from ddim.guidance import clip_x0
from ddim.noise import ImageNoise
from ddim.progress import bar, hidden
from ddim.samplers import Sampler, trajectory

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser


@torch.no_grad()
def restore(
    model: "Denoiser",
    y: Tensor,
    operator: Operator,
    noise_std: float = 0.0,
    *,
    method: str = "pigdm",
    steps: int | None = None,
    sampler: str | Sampler | None = None,
    eta: float | str | None = None,
    spacing: str | Sequence[float] | None = None,
    seed: int = 0,
    count: int = 1,
    labels: Sequence[int] | Tensor | None = None,
    clip: bool = True,
    resample: int = 1,
    batch_size: int = 64,
    progress: bool = True,
    conditions: Any = None,
    **options: Any,
) -> Tensor:
    """Return samples of x_0 given y = A x_0 + noise_std z, (B, count, C, H, W) on the CPU, float32.

    Sample j of measurement i starts from the noise of image i count + j of the seed. Pixels that a noiseless mask
    keeps are those of y, bit for bit.

    Args:
        model: the prior, on the device to use.
        y: (B, ...) as `operator.forward` returns it for images in [-1, 1].
        operator: A, see `ddim.edit.operators`.
        noise_std: standard deviation of the noise in y.
        method, options: see `ddim.edit.posterior`.
        steps, sampler, eta, spacing: see `ddim.sampling.SamplingOptions`. Without a sampler and an eta, the sampler is
            "ddim" with eta = 1. A preset is not used: it was tuned without a measurement.
        seed: of the noise.
        count: number of samples for each measurement.
        labels: (B,) the class of each image, or -1 for "any"; None is "any" for all.
        clip: whether the samples and each x0, after the measurement is taken into account, are clipped to [-1, 1]. A
            model with `sampling.clip` = False is never clipped.
        resample: how often each step is taken, see `ddim.edit.Resample`; for a mask.
        batch_size: samples at a time.
        progress: whether to show a progress bar.
        conditions: (B, D) the vector of each image, or (D,) one for all, see `ddim.Denoiser.sample`.

    Raises:
        UserError: an operator that does not fit the model's images, a measurement of another shape or that is not
            finite, resampling with another operator than a mask, or what `ddim.Denoiser.sample` refuses.
    """
    check_measurement(operator, y, model.shape)
    count, size = number("count", count, int, 1), number("batch_size", batch_size, int, 1)
    noise_std, resample = number("noise_std", noise_std, float, 0), number("resample", resample, int, 1, 1000)
    if sampler is None and eta is None:
        sampler, eta = "ddim", 1.0
    solver, levels = model.sampling.resolve(model.schedule, steps, sampler, eta, spacing)
    if resample > 1:
        if not isinstance(operator, Mask):
            raise UserError(f"Resampling is for a mask; got {type(operator).__name__}. Leave it out.")
        solver = Resample(solver, resample)
    labels = labels_of(model, labels, len(y))
    vectors = check_vectors(model, conditions, len(y))
    warn_of_student(model, "restoring images")
    clip = clip and model.sampling.clip
    methods[method]  # refuses an unknown name before anything is drawn
    total, samples = len(y) * count, []
    with (
        evaluating(model.network),
        hidden(not progress),
        bar(total=-(-total // size) * (len(levels) - 1), desc=f"restoring {len(y)}", unit="step") as steps_bar,
    ):
        for begin in range(0, total, size):
            rows = torch.arange(begin, min(begin + size, total))
            noise = ImageNoise(seed, rows.tolist())
            xT = noise(torch.empty(len(rows), *model.shape, device=model.device, dtype=model.image_dtype))
            xT = start(levels[0], xT)
            given = y[(rows // count).to(y.device)].to(xT)
            label, vector = (None if one is None else one[(rows // count).to(one.device)] for one in (labels, vectors))
            prior = model.denoise(label, clip=False, conditions=vector)
            denoise = posterior(prior, given, operator, noise_std, method, **options)
            denoise = clip_x0(denoise) if clip else denoise
            for x in trajectory(solver, denoise, xT, levels, noise, model.schedule):  # noqa: B007
                steps_bar.update()
            if not x.isfinite().all():
                raise UserError("The samples are NaN: the weights are broken, or the operator is; check both.")
            samples.append((x.clamp(-1, 1) if clip else x).float().cpu())  # a multistep solver may extrapolate
    found = torch.cat(samples).reshape(len(y), count, *model.shape)
    if isinstance(operator, Mask) and not noise_std:
        known = operator.mask.expand(model.shape)
        found[..., known] = y[:, None].to(found).expand_as(found)[..., known]
    return found
