"""New images from a model: `sample` and `trajectory`, methods of `ddim.Denoiser`.

Both run one loop, the generator `_Request.steps`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ddim import samplers
from ddim.contract import Labels, check_batch, check_conditions, check_finite, check_vectors
from ddim.device import evaluating
from ddim.errors import UserError, number
from ddim.forward import start
from ddim.guidance import Interval, share
from ddim.level import Denoise, Level, Noise, Prediction
from ddim.noise import ImageNoise
from ddim.pictures import to_uint8
from ddim.presets import guidance_of
from ddim.progress import bar, hidden
from ddim.samplers import Sampler

if TYPE_CHECKING:
    from ddim.denoiser import Denoiser


class Step(NamedTuple):
    """One step of a trajectory.

    Attributes:
        level: the level that the step reached.
        x: the images at that level, (B, C, H, W).
        x0: the clean images that the network predicted for the step, (B, C, H, W), guided and clipped: the last
            prediction so far, of a solver that calls the network several times in a step, or not in each step.
    """

    level: Level
    x: Tensor
    x0: Tensor


def sample(
    model: "Denoiser",
    count: int,
    *,
    steps: int | None = None,
    sampler: str | Sampler | None = None,
    eta: float | str | None = None,
    spacing: str | Sequence[float] | None = None,
    seed: int = 0,
    first: int = 0,
    x_T: Tensor | None = None,
    noise: Noise | None = None,
    labels: Labels | None = None,
    guidance: float | None = None,
    guidance_interval: Interval | None = None,
    weak: "Denoiser | None" = None,
    clip: bool = True,
    grad: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
    pixels: bool = False,
    conditions: Any = None,
) -> Tensor:
    """Return new images, (count, C, H, W) on the CPU, float32 in [-1, 1].

    Image i of a seed is the same at any batch size, to the rounding of the network.

    Args:
        model: the model.
        count: number of images, at least 1.
        steps, sampler, eta, spacing: see `ddim.sampling.SamplingOptions`; None is the model's default. If none of them
            but the steps is given, and the model has a preset for that number of network calls, it is used (see
            `preset`).
        seed: of the noise, in [0, 2^64).
        first: index of the first image in the seed's sequence of images.
        x_T: (count, C, H, W) floats, the images at the first level, in place of the seed's. `ddim.forward.start` makes
            them of standard normal noise.
        noise: a function in place of the seed's noise: it returns a standard normal draw like its argument, (B, C, H,
            W). In each batch it draws first x_T, even if that is given, and then what a stochastic sampler injects.
        labels: (count,) the class of each image; None takes all classes in turn, if the model has classes.
        guidance: weight w of classifier-free guidance, or of autoguidance with `weak`; 1 is the model itself. None
            is the preset's own guidance if neither an interval nor a weak model is given, otherwise 1. Another
            guidance than the preset's keeps its solver and times.
        guidance_interval: (low, high) of sigma / alpha; guidance acts at levels above low and up to high, and
            elsewhere the weight is 1. None is every level. See `ddim.guidance.classifier_free`.
        weak: a model that guidance leads away from, in place of the null class, with the same shape, classes and
            schedule: for instance `ddim.load(run, checkpoint=step)`. See `ddim.guidance.autoguidance`.
        clip: whether each predicted x0 is clipped to [-1, 1]. Without, images may leave that range. A model with
            `sampling.clip` = False is never clipped.
        grad: whether the images are differentiable in the weights, in `x_T` and in what `noise` draws. The network
            itself computes them, and every call of it is kept for the backward pass. Clipped pixels have no gradient.
        batch_size: images at a time; None is 64.
        progress: whether to show a progress bar.
        pixels: whether to return the images as uint8, in 256 grey levels: a quarter of the memory.
        conditions: (count, D) the vector of each image, or (D,) one for all; a row of NaN is the null vector, and None
            is the null vector for all. Guidance leads away from the null vector and class. With conditions, the network
            itself computes the images, not a backend.

    Raises:
        UserError: an invalid count, label, number of steps, eta, name or interval, an `x_T` or a weak model that does
            not fit, weights that are NaN, or gradients of uint8.
    """
    if grad and pixels:
        raise UserError("Pixels are whole numbers and have no gradient; leave out pixels or grad.")
    batch_size = 64 if batch_size is None else number("batch_size", batch_size, int, 1)
    request = _Request(
        model,
        count,
        steps=steps,
        sampler=sampler,
        eta=eta,
        spacing=spacing,
        seed=seed,
        first=first,
        x_T=x_T,
        noise=noise,
        labels=labels,
        guidance=guidance,
        guidance_interval=guidance_interval,
        weak=weak,
        clip=clip,
        grad=grad,
        conditions=conditions,
    )
    count, batch_size = request.count, min(batch_size, request.count)
    try:
        images = torch.empty(count, *model.shape, dtype=torch.uint8 if pixels else torch.float32)
    except (RuntimeError, TypeError) as error:  # PyTorch has no type of its own for this
        raise UserError(f"{count} images of shape {model.shape} do not fit in memory; ask for fewer.") from error
    total = -(-count // batch_size) * (len(request.levels) - 1)
    with (
        request.computing(),
        hidden(not progress),
        bar(total=total, desc=f"sampling {count}", unit="step") as steps_bar,
    ):
        request.prepare(batch_size)
        for begin in range(0, count, batch_size):
            rows = range(begin, min(begin + batch_size, count))
            for step in request.steps(rows):  # noqa: B007
                steps_bar.update()
            x = step.x.float().cpu()
            x = check_finite(x.clamp(-1, 1) if request.clip else x)
            images[rows.start : rows.stop] = to_uint8(x) if pixels else x
    return images


def trajectory(model: "Denoiser", count: int, **options: Any) -> Iterator[Step]:
    """Yield each step of a call of `sample`: the level that it reached, the images there, and the predicted x0.

    The images are those of `sample`, which clamps the last ones; no more network calls are made. They are one batch on
    the model's device.

    Args:
        model: the model.
        count: number of images, at least 1.
        options: of `sample`, without `batch_size`, `progress` and `pixels`. With `grad`, the steps are differentiable.

    Raises:
        UserError: arguments that `sample` refuses, at the call. Weights that are NaN are not detected.
    """
    request = _Request(model, count, **options)
    with request.computing():
        request.prepare(request.count)

    def steps() -> Iterator[Step]:
        computed = request.steps(range(request.count))
        while True:
            with request.computing():  # while a step is in use, gradients and the network's mode are the caller's
                step = next(computed, None)
            if step is None:
                return
            yield step

    return steps()


class _Request:
    """The checked and completed arguments of a call of `sample` or `trajectory`; see `sample` for each."""

    def __init__(
        self,
        model: "Denoiser",
        count: int,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
        seed: int = 0,
        first: int = 0,
        x_T: Tensor | None = None,
        noise: Noise | None = None,
        labels: Labels | None = None,
        guidance: float | None = None,
        guidance_interval: Interval | None = None,
        weak: "Denoiser | None" = None,
        clip: bool = True,
        grad: bool = False,
        conditions: Any = None,
    ) -> None:
        self.model, self.count = model, (count := number("count", count, int, 1))
        preset = model.preset(steps, sampler, eta, spacing)
        self.method, self.levels = (
            model.sampling.resolve(model.schedule, steps, sampler, eta, spacing)
            if preset is None
            else preset.resolve(model.schedule)
        )
        self.first = number("The first index", first, int, 0, 2**64 - count, "a whole number from 0 to 2^64 - count")
        if labels is None and model.classes is not None:
            labels = (self.first % model.classes + torch.arange(count)) % model.classes
        weight, limits = guidance_of(preset, guidance, guidance_interval, weak)
        self.labels, self.weight, self.interval = check_conditions(model, labels, count, weight, limits, weak)
        self.vectors = check_vectors(model, conditions, count)
        self.weak = None if self.weight == 1 else weak
        self.guided = 0.0 if self.weight == 1 else share(self.interval, self.levels[:-1])  # share of the calls
        if x_T is not None:
            check_batch(x_T, model.shape, "The noise x_T")
            if len(x_T) != count:
                raise UserError(f"x_T has {len(x_T)} images, and {count} are asked for; give one noise for each.")
        if noise is not None and not callable(noise):
            raise UserError(
                "noise is a function that draws noise like its argument, e.g. torch.randn_like; got an object of type "
                f"{type(noise).__name__}. The images at the first level are x_T."
            )
        self.seed, self.x_T, self.noise, self.grad = seed, x_T, noise, grad
        self.clip = clip and model.sampling.clip

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within this context the networks are in eval mode, and without gradients unless `grad` is set."""
        with ExitStack() as contexts:
            if not self.grad:
                contexts.enter_context(torch.no_grad())
            for one in filter(None, (self.model, self.weak)):
                contexts.enter_context(evaluating(one.network))
            yield

    def prepare(self, batch_size: int) -> None:
        """Choose what computes the networks in batches of this size.

        With gradients, and with vectors as conditions, it is the networks themselves.
        """
        model, weak, own = self.model, self.weak, self.grad or self.vectors is not None
        calls = -(-self.count // batch_size) * self.method.calls(self.levels)
        guide = None
        if weak is not None:
            served = weak.network if own else weak._served(batch_size, math.ceil(calls * self.guided))
            guide = partial(weak._denoise, served, clip=False)
        network = model.network if own else model._served(batch_size, calls, 0.0 if weak else self.guided)
        self.denoise: Callable[..., Denoise] = partial(
            model._denoise, network, clip=self.clip, guidance=self.weight, interval=self.interval, weak=guide
        )

    def steps(self, rows: range) -> Iterator[Step]:
        """Yield the steps of these images, a batch."""
        model = self.model
        noise = self.noise or ImageNoise(self.seed, (self.first + i for i in rows))
        drawn = noise(torch.empty(len(rows), *model.shape, device=model.device, dtype=model.image_dtype))
        if not isinstance(drawn, Tensor) or drawn.shape != (len(rows), *model.shape):
            given = tuple(drawn.shape) if isinstance(drawn, Tensor) else f"an object of type {type(drawn).__name__}"
            raise UserError(f"noise must return a draw like its argument, {(len(rows), *model.shape)}; got {given}.")
        x = start(self.levels[0], drawn)
        if self.x_T is not None:
            x = self.x_T[rows.start : rows.stop].to(x)
        label, vector = (None if one is None else one[rows.start : rows.stop] for one in (self.labels, self.vectors))
        denoise = self.denoise(label, conditions=vector)
        x0 = x

        def remembered(x: Tensor, at: Level) -> Prediction:
            nonlocal x0
            prediction = denoise(x, at)
            x0 = prediction.x0
            return prediction

        reached = samplers.trajectory(self.method, remembered, x, self.levels, noise, model.schedule)
        for level, x in zip(self.levels[1:], reached, strict=True):
            yield Step(level, x, x0)
