"""A model: a network with its noise schedule and the quantity it predicts."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ddim import drawing, inversion
from ddim.contract import (
    NULL,
    Labels,
    check_conditions,
    check_network,
    check_output,
    check_predicts,
    check_shape,
    check_vectors,
)
from ddim.device import evaluating
from ddim.errors import UserError, number, shown
from ddim.forward import q_sample
from ddim.guidance import (
    EVERYWHERE,
    Interval,
    autoguidance,
    classifier_free,
    classifier_free_in_one_call,
    clip_x0,
)
from ddim.level import Denoise, Level, Prediction
from ddim.predict import predictions, target
from ddim.presets import Preset, find
from ddim.samplers import Sampler
from ddim.sampling import Sampling
from ddim.schedule import Schedule
from ddim.values import Values

__all__ = ["NULL", "Denoiser", "Labels"]


class Server(Protocol):
    """What computes the network for `Denoiser.sample`, see `ddim.backends`; `str` gives its name."""

    def network(self, model: "Denoiser", batch: int, calls: int | None) -> Callable[..., Tensor]:
        """Return a function with the arguments and the result of the model's network.

        `batch` is the number of images in a call, and `calls` the expected number of calls; None is any number.
        """
        ...


class Denoiser(nn.Module):
    """A network of x_t and t, whose output becomes a prediction of x0 and eps.

    The methods `sample` and `trajectory` are defined in `ddim.drawing`, `encode` and `decode` in `ddim.inversion`.

    Args:
        network: any module: network(x, t) -> (B, C, H, W), or network(x, t, label) for a model with classes;
            x is (B, C, H, W), t is (B,) float32 in (0, T], label is (B,) int64 with -1 for "any class".
        schedule: the noise schedule that the network is trained on.
        predicts: what the network outputs, "eps", "x0", "v" = alpha eps - sigma x0, or "flow" = eps - x0.
        shape: (C, H, W) of an image.
        classes: number of classes, or None for a model without labels.
        conditions: length of the vector that describes an image, or None. The network takes it by name: condition=
            (B, `conditions`), with a row of NaN for the null vector.
        indexed: True for a network trained on 0-based indices (the official DDIM code, diffusers), which
            sees t - 1 in place of t.
        sampling: the defaults of `sample`, `encode` and `decode`.

    Attributes:
        null_class: whether the network learns the null class -1, which guidance needs. `fit` sets it to False where
            no label is dropped.
        values: the range and the type of the arrays that the images were; None for pictures. See `ddim.values`.
        presets: the best ways to sample that `ddim.tune` found, one for each number of network calls, see `preset`.
        server: what computes the network of `sample`, see `ddim.backends.serve`; None is the network itself.

    Raises:
        UserError: an unknown parameterisation, an impossible shape or number of classes, a network of other channels,
            classes or arguments, or "eps" on a schedule that ends at alpha_T = 0, where x0 cannot be computed from eps.
    """

    null_class: bool = True
    values: Values | None = None
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
        conditions: int | None = None,
    ) -> None:
        super().__init__()
        self._predict = predictions[predicts]
        sampling = Sampling() if sampling is None else sampling
        for value, kind, name in ((schedule, Schedule, "schedule.Schedule"), (sampling, Sampling, "sampling.Sampling")):
            if not isinstance(value, kind):
                raise UserError(f"A model takes a ddim.{name}; got {shown(value)}. Create one first.")
        self.shape = check_shape(shape)
        self.classes = None if classes is None else number("The number of classes", classes, int, 1)
        self.conditions = None if conditions is None else number("The length of conditions", conditions, int, 1, 4096)
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
        """Dtype of x_t in a sampler: `dtype`, but float32 for a network in half precision, as rounding accumulates."""
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
        """Return what computes the network for `calls` calls, of which the share `doubled` has twice the batch."""
        if self.server is None:
            return self.network
        if doubled:  # a call of the batch itself costs half of one of twice the batch
            batch_size, calls = 2 * batch_size, None if calls is None else math.ceil(calls * (1 + doubled) / 2)
        return self.server.network(self, batch_size, calls)

    def with_network(self, network: nn.Module) -> "Denoiser":
        """Return the same model, of the same class, with another network, e.g. one with averaged weights."""
        schedule, predicts, shape, classes = self.schedule, self.predicts, self.shape, self.classes
        options: dict[str, Any] = {"indexed": self.indexed, "sampling": self.sampling}
        options |= {} if self.conditions is None else {"conditions": self.conditions}  # a subclass may not take it
        model = type(self)(network, schedule, predicts, shape, classes, **options)
        model.null_class, model.values, model.presets = self.null_class, self.values, self.presets
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
        """Return ||eps - eps_theta(x_t, t)||^2, (B,), a mean over the pixels of each image.

        This is DDPM's loss with equal weights (arXiv 2006.11239, Eq. 14). A network that predicts x0, v or flow is
        compared with that quantity instead of eps.

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
        if not x0.is_floating_point():
            raise UserError(f"The loss takes float images in [-1, 1], not {x0.dtype}; bring pixels by x / 127.5 - 1.")
        if t.ndim and len(t) != len(x0):
            raise UserError(f"The loss takes one time per image; got {len(t)} times for {len(x0)} images.")
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
        conditions: Any = None,
    ) -> Denoise:
        """Return the model as a `Denoise` function, the form that samplers take.

        Args:
            labels: (B,) the class of each image, or -1 for "any"; None is "any" for all.
            guidance, clip, guidance_interval: see `sample`, which has the same errors. No preset is used.
            served: B, for the network as `sample` computes it: by `server`, if there is one, without gradients. None
                is the network itself.
            conditions: (B, D) the vector of each image, see `sample`.
        """
        given, weight, interval = check_conditions(self, labels, None, guidance, guidance_interval)
        vectors = check_vectors(self, conditions, None if given is None else len(given))
        network = self.network if served is None else self._served(served, None, float(weight != 1))
        return self._denoise(network, given, clip, weight, interval, conditions=vectors)

    def _denoise(
        self,
        network: Callable[..., Tensor],
        labels: Tensor | None,
        clip: bool,
        guidance: float = 1.0,
        interval: Interval = EVERYWHERE,
        weak: Callable[..., Denoise] | None = None,
        conditions: Tensor | None = None,
    ) -> Denoise:
        predict = partial(self._predicted, network)
        if conditions is not None:
            conditional = partial(self._predicted, partial(network, condition=conditions), label=labels)
            guide = partial(predict, label=None) if weak is None else weak(labels, conditions=conditions)
            denoise = classifier_free(conditional, guide, guidance, interval)
        elif weak is None:
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

        It is the one that makes `steps` network calls, by default `sampling.steps`. None is used if another option is
        given, or if it was tuned for other weights; a `Notice` warns of the latter.
        """
        if not self.presets or not (sampler is None and eta is None and spacing is None):
            return None
        return find(self.presets, min(self.sampling.steps, self.schedule.N) if steps is None else steps, self.network)

    def describe_sampling(self, guided: bool = True, **options: Any) -> str:
        """Return the preset or the sampler that `sample` uses for some options, as text.

        Args:
            guided: whether the preset's own guidance is used: False if the call names another one.
            options: see `ddim.sampling.SamplingOptions`; the sampler is a name.
        """
        preset = self.preset(**options)
        return self.sampling.describe(**options, schedule=self.schedule) if preset is None else preset.describe(guided)

    sample = drawing.sample
    trajectory = drawing.trajectory
    encode = inversion.encode
    decode = inversion.decode
