"""A model: a network with its noise schedule and the quantity it predicts."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, Unpack

import torch
from torch import Tensor, nn

from ddim.contract import (
    NULL,
    Labels,
    check_batch,
    check_conditions,
    check_finite,
    check_network,
    check_output,
    check_predicts,
    check_range,
    check_shape,
)
from ddim.device import evaluating
from ddim.edit.exact import Implicit, check_plain, decode_exactly, encode_exactly
from ddim.edit.invert import invert
from ddim.errors import UserError, number
from ddim.forward import q_sample, start
from ddim.guidance import EVERYWHERE, Interval, autoguidance, classifier_free_in_one_call, clip_x0, share
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.pictures import to_uint8
from ddim.predict import predictions, target
from ddim.presets import Preset, find, guidance_of
from ddim.progress import bar, hidden
from ddim.samplers import Sampler, get, trajectory
from ddim.sampling import Sampling, SamplingOptions
from ddim.schedule import Schedule

__all__ = ["NULL", "Denoiser", "Labels"]


class Server(Protocol):
    """What computes the network for `Denoiser.sample`; `str` tells how. See `ddim.backends`."""

    def network(self, model: "Denoiser", batch: int, calls: int | None) -> Callable[..., Tensor]:
        """Return a function with the arguments and the result of the model's network, for so many calls of a batch."""
        ...


class Denoiser(nn.Module):
    """A network of x_t and t, whose output becomes a prediction of x0 and eps.

    Args:
        network: any module: network(x, t) -> (B, C, H, W), or network(x, t, label) for a model with classes;
            x is (B, C, H, W), t is (B,) float32 in (0, T], label is (B,) int64 with -1 for "any class".
        schedule: the noise schedule that the network is trained on.
        predicts: what the network outputs, "eps", "x0", "v" = alpha eps - sigma x0, or "flow" = eps - x0.
        shape: (C, H, W) of an image.
        classes: number of classes, or None for a model without labels.
        indexed: True for a network trained on 0-based indices (the official DDIM code, diffusers), which
            sees t - 1 in place of t.
        sampling: the defaults of `sample`, `encode` and `decode`.

    Attributes:
        null_class: whether the network learns the null class -1, which guidance needs. `fit` sets it to False where
            no label is dropped.
        presets: ways to sample with so many network calls that `ddim.tune` found, see `preset`.
        server: what computes the network of `sample`, see `ddim.backends.serve`; None is the network itself.

    Raises:
        UserError: an unknown parameterisation, an impossible shape or number of classes, a network of other channels,
            classes or arguments, or "eps" on a schedule that ends at alpha_T = 0, where x0 cannot be computed from eps.
    """

    null_class: bool = True
    presets: tuple[Preset, ...] = ()
    server: Server | None = None

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        predicts: str = "eps",
        shape: Sequence[int] = (1, 28, 28),
        classes: int | None = None,
        *,
        indexed: bool = False,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        self._predict = predictions[predicts]
        sampling = Sampling() if sampling is None else sampling
        for value, kind, name in ((schedule, Schedule, "schedule.Schedule"), (sampling, Sampling, "sampling.Sampling")):
            if not isinstance(value, kind):
                raise UserError(f"A model takes a ddim.{name}; got {value!r}. Create one first.")
        self.shape = check_shape(shape)
        self.classes = None if classes is None else number("The number of classes", classes, int, 1)
        check_network(network, self.shape, self.classes)
        check_predicts(predicts, schedule)
        self.network, self.schedule, self.predicts = network, schedule, predicts
        self.indexed, self.sampling = indexed, sampling

    @property
    def device(self) -> torch.device:
        """Device of the network's weights; the CPU for a network without weights."""
        return next(self.network.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's weights and of its input; float32 for a network without weights."""
        return next(self.network.parameters(), torch.empty(0)).dtype

    @property
    def image_dtype(self) -> torch.dtype:
        """Dtype of images on their way: `dtype`, but float32 for a network in half precision, whose steps add up."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def reference(self) -> str:
        """The network itself as a backend, e.g. "torch fp32"."""
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
        return f"torch {names.get(self.dtype, self.dtype)}"

    @property
    def backend(self) -> str:
        """What computed the network in the last call of `sample`, e.g. "openvino bf16"."""
        return self.reference if self.server is None else str(self.server)

    def prepare(self, batch_size: int = 64, guidance: float = 1.0, calls: int | None = None) -> str:
        """Prepare now what computes the network of `sample`, and return its name, see `backend`.

        `sample` does the same at its first call.

        Args:
            batch_size, guidance: see `sample`, which has the same errors. With a weak model, prepare each of the two
                with a guidance of 1.
            calls: number of network calls to come; None is any number.
        """
        with evaluating(self.network), torch.no_grad():
            rows = number("batch_size", batch_size, int, 1)
            self._served(rows, calls, doubled=number("guidance", guidance, float) != 1)
        return self.backend

    def _served(self, batch_size: int, calls: int | None, doubled: float = 0.0) -> Callable[..., Tensor]:
        """Return what computes the network for so many calls, of which a share has twice the batch."""
        if self.server is None:
            return self.network
        if doubled:  # a call of the batch itself costs half of one of twice the batch
            batch_size, calls = 2 * batch_size, None if calls is None else math.ceil(calls * (1 + doubled) / 2)
        return self.server.network(self, batch_size, calls)

    def with_network(self, network: nn.Module) -> "Denoiser":
        """Return the same model, of the same class, with another network, e.g. one with averaged weights."""
        schedule, predicts, shape, classes = self.schedule, self.predicts, self.shape, self.classes
        model = type(self)(network, schedule, predicts, shape, classes, indexed=self.indexed, sampling=self.sampling)
        model.null_class, model.presets = self.null_class, self.presets
        return model

    def forward(self, x: Tensor, at: Level, label: Tensor | None = None) -> Prediction:
        """Predict x0 and eps from x_t, differentiably.

        Args:
            x: (B, C, H, W) images at level `at`. The prediction has their dtype; the network gets them in its own.
            at: one level, or one per image.
            label: (B,) int64 classes, -1 for "any"; None means "any" for all.

        Raises:
            UserError: the network returns anything but floats shaped like `x`.
        """
        return self._predicted(self.network, x, at, label)

    def _predicted(self, network: Callable[..., Tensor], x: Tensor, at: Level, label: Tensor | None) -> Prediction:
        return self._predict(x, at.like(x), self._output(network, x, at, label))

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Return ||eps - eps_theta(x_t, t)||^2, (B,), a mean over the pixels of each image (the paper, section 6).

        For a network that predicts something else, the target is that.

        Args:
            x0: clean images in [-1, 1], (B, C, H, W).
            t: (B,) times in (0, T].
            noise: eps, standard normal, shaped like `x0`.
            label: (B,) classes, or None.

        Raises:
            UserError: images of another shape than the model's, or a network that returns another shape.
        """
        if x0.shape != noise.shape or x0.shape[1:] != self.shape:
            raise UserError(
                f"The model has images of shape {self.shape}; got images {tuple(x0.shape)} with noise "
                f"{tuple(noise.shape)}. Make the model with the shape of its images."
            )
        at = self.schedule(t.cpu()).like(x0)
        output = self._output(self.network, q_sample(x0, at, noise), at, label)
        return (target(self.predicts, x0, at, noise) - output).square().mean(dim=(1, 2, 3))

    def _output(self, network: Callable[..., Tensor], x: Tensor, at: Level, label: Tensor | None) -> Tensor:
        if at.t.ndim:
            t = at.t.flatten().to(x.device, torch.float32).expand(len(x))
        else:  # filled in on the device: a copy from the CPU would wait for the device at every call
            t = torch.full((len(x),), float(at.t), dtype=torch.float32, device=x.device)
        if self.indexed:
            t = t - 1
        inputs = [x.to(next(self.network.parameters(), x).dtype), t]
        if self.classes is not None:
            inputs.append(torch.full((len(x),), NULL, device=x.device) if label is None else label.to(x.device))
        return check_output(network(*inputs), x)

    def denoise(
        self,
        labels: Labels | None = None,
        guidance: float = 1.0,
        clip: bool = True,
        guidance_interval: Interval | None = None,
        served: int | None = None,
    ) -> Denoise:
        """Return the model as a `Denoise` function, the form that samplers take.

        Args:
            labels: (B,) the class of each image, or -1 for "any"; None is "any" for all.
            guidance, clip, guidance_interval: see `sample`, which has the same errors. No preset is used.
            served: B, for the network as `sample` computes it: by `server`, if there is one, without gradients. None
                is the network itself.
        """
        given, weight, interval = check_conditions(self, labels, None, guidance, guidance_interval)
        network = self.network if served is None else self._served(served, None, float(weight != 1))
        return self._denoise(network, given, clip, weight, interval)

    def _denoise(
        self,
        network: Callable[..., Tensor],
        labels: Tensor | None,
        clip: bool,
        guidance: float = 1.0,
        interval: Interval = EVERYWHERE,
        weak: Callable[[Tensor | None], Denoise] | None = None,
    ) -> Denoise:
        predict = partial(self._predicted, network)
        if weak is None:
            denoise = classifier_free_in_one_call(predict, labels, NULL, guidance, interval)
        else:
            denoise = autoguidance(partial(predict, label=labels), weak(labels), guidance, interval)
        return clip_x0(denoise) if clip and self.sampling.clip else denoise

    def preset(
        self,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
    ) -> Preset | None:
        """Return the preset that `sample` takes for these options, None where it takes none.

        It is the one that makes `steps` network calls, by default `sampling.steps`. With another option, or if it was
        tuned for other weights, none is taken; in the latter case a `Notice` says so.
        """
        if not self.presets or not (sampler is None and eta is None and spacing is None):
            return None
        return find(self.presets, min(self.sampling.steps, self.schedule.N) if steps is None else steps, self.network)

    def describe_sampling(self, guided: bool = True, **options: Any) -> str:
        """Return what `sample` takes for `SamplingOptions`, a sampler by its name, as text: a preset or a sampler.

        `guided` tells whether the preset's own guidance is used: not where the request names another one.
        """
        preset = self.preset(**options)
        return self.sampling.describe(**options, schedule=self.schedule) if preset is None else preset.describe(guided)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
        seed: int = 0,
        first: int = 0,
        labels: Labels | None = None,
        guidance: float | None = None,
        guidance_interval: Interval | None = None,
        weak: "Denoiser | None" = None,
        clip: bool = True,
        batch_size: int | None = None,
        progress: bool = True,
        pixels: bool = False,
    ) -> Tensor:
        """Return new images, (count, C, H, W) on the CPU, float32 in [-1, 1].

        Image i of a seed is the same at any batch size, to the rounding of the network.

        Args:
            count: number of images, at least 1.
            steps, sampler, eta, spacing: see `ddim.sampling.SamplingOptions`; None is the model's default. If only the
                steps are given, or nothing, and the model has a preset of so many network calls, that is used (see
                `preset`).
            seed: of the noise, in [0, 2^64).
            first: index of the first image in the seed's sequence of images.
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
            batch_size: images at a time; None is 64.
            progress: whether to show a progress bar.
            pixels: whether to return the images as uint8, in 256 grey levels: a quarter of the memory.

        Raises:
            UserError: an invalid count, label, number of steps, eta, name or interval, a weak model that does not fit,
                or weights that are NaN.
        """
        count = number("count", count, int, 1)
        batch_size = 64 if batch_size is None else number("batch_size", batch_size, int, 1)
        preset = self.preset(steps, sampler, eta, spacing)
        method, levels = (
            self.sampling.resolve(self.schedule, steps, sampler, eta, spacing)
            if preset is None
            else preset.resolve(self.schedule)
        )
        try:
            images = torch.empty(count, *self.shape, dtype=torch.uint8 if pixels else torch.float32)
        except (RuntimeError, TypeError) as error:  # PyTorch has no type of its own for this
            raise UserError(f"{count} images of shape {self.shape} do not fit in memory; ask for fewer.") from error
        first = number("The first index", first, int, 0, 2**64 - count, "a whole number from 0 to 2^64 - count")
        if labels is None and self.classes is not None:
            labels = (first % self.classes + torch.arange(count)) % self.classes
        weight, limits = guidance_of(preset, guidance, guidance_interval, weak)
        classes, weight, interval = check_conditions(self, labels, count, weight, limits, weak)
        batch_size = min(batch_size, count)
        batches, steps = -(-count // batch_size), len(levels) - 1
        calls = batches * method.calls(levels)
        weak = None if weight == 1 else weak
        guided = 0.0 if weight == 1 else share(interval, levels[:-1])  # share of the calls
        with (
            evaluating(self.network),
            evaluating((weak or self).network),
            hidden(not progress),
            bar(total=batches * steps, desc=f"sampling {count}", unit="step") as steps_bar,
        ):
            guide = weak and partial(weak._denoise, weak._served(batch_size, math.ceil(calls * guided)), clip=False)
            network = self._served(batch_size, calls, 0.0 if weak else guided)
            for begin in range(0, count, batch_size):
                rows = range(begin, min(begin + batch_size, count))
                noise = ImageNoise(seed, (first + i for i in rows))
                xT = noise(torch.empty(len(rows), *self.shape, device=self.device, dtype=self.image_dtype))
                xT = start(levels[0], xT)
                label = None if classes is None else classes[begin : rows.stop]
                denoise = self._denoise(network, label, clip, weight, interval, guide)
                for x in trajectory(method, denoise, xT, levels, noise, self.schedule):  # noqa: B007
                    steps_bar.update()
                x = x.float().cpu()
                x = check_finite(x.clamp(-1, 1) if clip and self.sampling.clip else x)
                images[rows.start : rows.stop] = to_uint8(x) if pixels else x
        return images

    def encode(
        self,
        x0: Tensor,
        *,
        labels: Labels | None = None,
        exact: bool = False,
        refine: int = 0,
        **options: Unpack[SamplingOptions],
    ) -> Tensor:
        """Return the noise x_T from which a deterministic sampler makes `x0` (DDIM, section 5.4).

        The result is exact up to the error of the sampler's steps. It is on the model's device, in its `image_dtype`.

        Args:
            x0: clean images in [-1, 1], (B, C, H, W) floats.
            labels: (B,) the class of each image, or -1 for "any"; None is "any" for all. Give the images' own classes
                where you know them, and the same to `decode`: with another label the image does not come back.
            exact: whether to return a code that `decode(code, exact=True)` turns back into `x0` up to rounding, with
                the same options: two states of O-BELM, (B, 2, C, H, W) in float64. See `ddim.edit.OBELM`.
            refine: number of fixed-point iterations of each step of DDIM, see `ddim.edit.Implicit`. The noise then
                decodes to `x0` with a smaller error.
            options: steps, sampler and spacing, see `ddim.sampling.SamplingOptions`. The sampler must be
                deterministic; None is DDIM with eta = 0. Nothing is clipped.

        Raises:
            UserError: a stochastic sampler, images of another shape or range, both `exact` and `refine`, either with a
                sampler other than DDIM, or what `sample` refuses.
        """
        check_batch(x0, self.shape, "The images")
        check_range(x0)
        refine = number("refine", refine, int, 0, 1000)
        if exact and refine:
            raise UserError("exact and refine are two ways to invert; give one of them.")

        def refined(sampler: Sampler, *arguments: Any, **more: Any) -> Iterator[Tensor]:
            check_plain(sampler, "A refined inversion is DDIM's")
            return invert(Implicit(refine), *arguments, **more)

        return self._solve(encode_exactly if exact else refined if refine else invert, x0, labels, options, exact)

    def decode(
        self, xT: Tensor, *, labels: Labels | None = None, exact: bool = False, **options: Unpack[SamplingOptions]
    ) -> Tensor:
        """Return the images that a deterministic sampler makes from `xT`, (B, C, H, W): the inverse of `encode`.

        See `encode` for the labels, the options and the errors. With `exact`, `xT` is a code of `encode(exact=True)`.
        `ddim.forward.start` makes x_T of standard normal noise: on EDM's schedule x_T has a std of 80.
        """
        check_batch(xT, (2, *self.shape) if exact else self.shape, "The code" if exact else "The noise")
        return self._solve(decode_exactly if exact else trajectory, xT, labels, options, exact)

    @torch.no_grad()
    def _solve(
        self,
        solve: Callable[..., Iterator[Tensor]],
        x: Tensor,
        labels: Labels | None,
        options: SamplingOptions,
        exact: bool = False,
    ) -> Tensor:
        """Run `invert`, `trajectory` or the like from `x` to its end, without clipping and without noise."""
        if options.get("sampler") is None:
            options = {**options, "sampler": get("ddim", eta=options.get("eta") or 0.0), "eta": None}
        method, levels = self.sampling.resolve(self.schedule, **options)
        given, *_ = check_conditions(self, labels, len(x))
        denoise = self._denoise(self.network, given, clip=False)
        dtype = torch.float64 if exact and self.device.type != "mps" else self.image_dtype  # Apple's GPUs have none
        with evaluating(self.network):
            *_, end = solve(method, denoise, x.to(self.device, dtype), levels, schedule=self.schedule)
        return check_finite(end)
