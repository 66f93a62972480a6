"""A model: a network with its noise schedule and the quantity it predicts."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ddim.edit import invert
from ddim.errors import UserError
from ddim.forward import q_sample
from ddim.guidance import classifier_free, clip_x0
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.predict import predictions, target
from ddim.progress import bar, hidden
from ddim.samplers import Sampler, get, trajectory
from ddim.sampling import Sampling, SamplingOptions
from ddim.schedule import Schedule

NULL = -1  # the label that stands for "any class"
Labels = Sequence[int] | Tensor  # one class per image, or NULL


class Denoiser(nn.Module):
    """A network of x_t and t, whose output becomes a prediction of x0 and eps.

    Args:
        network: any module: network(x, t) -> (B, C, H, W), or network(x, t, label) for a model with classes;
            x is (B, C, H, W), t is (B,) float32 in (0, T], label is (B,) int64 with -1 for "any class".
        schedule: the noise schedule that the network is trained on.
        predicts: what the network outputs, "eps", "x0" or "v".
        shape: (C, H, W) of an image.
        classes: number of classes, or None for a model without labels.
        indexed: True for a network trained on 0-based indices (the official DDIM code, diffusers), which
            sees t - 1 in place of t.
        sampling: the defaults of `sample`, `encode` and `decode`.

    Raises:
        UserError: an unknown parameterisation, an impossible shape or number of classes, or "eps" on a
            schedule that ends at alpha_T = 0, where x0 cannot be computed from eps.
    """

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
        if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise UserError(f"The shape of an image is three whole numbers above 0, (C, H, W); got {shape!r}.")
        if classes is not None and not (isinstance(classes, int) and classes > 0):
            raise UserError(f"classes must be a whole number above 0, or None for a model without; got {classes!r}.")
        if predicts == "eps" and schedule.alpha_bar[-1] == 0:
            raise UserError(
                "A network that predicts eps cannot be used on a schedule with alpha_T = 0, where x_T contains "
                "no signal; let it predict 'v' or 'x0'."
            )
        self.network, self.schedule, self.predicts = network, schedule, predicts
        self.shape, self.classes, self.indexed = tuple(shape), classes, indexed
        self.sampling = sampling or Sampling()

    @property
    def device(self) -> torch.device:
        """Device of the network's weights; the CPU for a network without weights."""
        return next(self.network.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's weights and of its input; float32 for a network without weights."""
        return next(self.network.parameters(), torch.empty(0)).dtype

    def with_network(self, network: nn.Module) -> "Denoiser":
        """Return the same model, of the same class, with another network, e.g. one with averaged weights."""
        schedule, predicts, shape, classes = self.schedule, self.predicts, self.shape, self.classes
        return type(self)(network, schedule, predicts, shape, classes, indexed=self.indexed, sampling=self.sampling)

    def forward(self, x: Tensor, at: Level, label: Tensor | None = None) -> Prediction:
        """Predict x0 and eps from x_t, differentiably.

        Args:
            x: (B, C, H, W) images at level `at`.
            at: one level, or one per image.
            label: (B,) int64 classes, -1 for "any"; None means "any" for all.
        """
        return self._predict(x, at.like(x), self._output(x, at, label))

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Return ||eps - eps_theta(x_t, t)||^2, (B,), a mean over the pixels of each image (the paper, section 6).

        For a network that predicts x0 or v, the target is x0 or v.

        Args:
            x0: clean images in [-1, 1], (B, C, H, W).
            t: (B,) times in (0, T].
            noise: eps, standard normal, shaped like `x0`.
            label: (B,) classes, or None.
        """
        at = self.schedule(t.cpu()).like(x0)
        output = self._output(q_sample(x0, at, noise), at, label)
        return (target(self.predicts, x0, at, noise) - output).square().mean(dim=(1, 2, 3))

    def _output(self, x: Tensor, at: Level, label: Tensor | None) -> Tensor:
        t = at.t.flatten().to(x.device, torch.float32).expand(len(x))
        if self.indexed:
            t = t - 1
        if self.classes is None:
            return self.network(x, t)  # type: ignore[no-any-return]
        label = torch.full((len(x),), NULL) if label is None else label
        return self.network(x, t, label.to(x.device))  # type: ignore[no-any-return]

    def denoise(self, labels: Tensor | None = None, guidance: float = 1.0, clip: bool = True) -> Denoise:
        """Return the model as a `Denoise` function, the form that samplers take; see `sample` for the arguments."""
        denoise: Denoise = partial(self, label=labels)
        if guidance != 1:
            denoise = classifier_free(denoise, self, guidance)
        return clip_x0(denoise) if clip else denoise

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
        guidance: float = 1.0,
        clip: bool = True,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> Tensor:
        """Return new images, (count, C, H, W) float32 on the CPU, in [-1, 1].

        Image i of a seed is the same at any batch size, to the rounding of the network.

        Args:
            count: number of images, at least 1.
            steps, sampler, eta, spacing: see `ddim.sampling.SamplingOptions`; None is the model's default.
            seed: of the noise, in [0, 2^64).
            first: index of the first image in the seed's sequence of images.
            labels: (count,) the class of each image; None takes all classes in turn, if the model has classes.
            guidance: weight of classifier-free guidance; 1 is the conditional model itself.
            clip: whether each predicted x0 is clipped to [-1, 1].
            batch_size: images at a time; None is 64.
            progress: whether to show a progress bar.

        Raises:
            UserError: an invalid count, label, number of steps, eta or name, or weights that are NaN.
        """
        batch_size = 64 if batch_size is None else batch_size
        if count < 1 or batch_size < 1:
            raise UserError(f"Ask for at least 1 image, in batches of at least 1; got {count} and {batch_size}.")
        method, levels = self.sampling.resolve(self.schedule, steps, sampler, eta, spacing)
        classes = self._classes(count, first, labels)
        if not math.isfinite(guidance) or (guidance != 1 and classes is None):
            raise UserError(f"guidance must be finite, and 1 for a model without classes; got {guidance}.")
        images = []
        total = -(-count // batch_size) * (len(levels) - 1)
        with (
            self._evaluating(),
            hidden(not progress),
            bar(total=total, desc=f"sampling {count}", unit="step") as steps_bar,
        ):
            for start in range(0, count, batch_size):
                rows = range(start, min(start + batch_size, count))
                noise = ImageNoise(seed, (first + i for i in rows))
                xT = noise(torch.empty(len(rows), *self.shape, device=self.device, dtype=self.dtype))
                denoise = self.denoise(None if classes is None else classes[start : rows.stop], guidance, clip)
                for x in trajectory(method, denoise, xT, levels, noise, self.schedule):  # noqa: B007
                    steps_bar.update()
                images.append(x.float().cpu())
        samples = torch.cat(images).clamp(-1, 1)
        if not samples.isfinite().all():
            raise UserError("The network's output is NaN: its weights are broken; train it or copy it again.")
        return samples

    def encode(self, x0: Tensor, *, labels: Labels | None = None, **options: Unpack[SamplingOptions]) -> Tensor:
        """Return the noise x_T from which a deterministic sampler makes `x0` (DDIM, section 5.4).

        The result is exact up to the error of the sampler's steps. It is on the model's device, in its dtype.

        Args:
            x0: clean images in [-1, 1], (B, C, H, W).
            labels: (B,) the class of each image, as for `sample`.
            options: steps, sampler and spacing, see `ddim.sampling.SamplingOptions`. The sampler must be
                deterministic; None is DDIM with eta = 0. Nothing is clipped.

        Raises:
            UserError: a stochastic sampler, or what `sample` refuses.
        """
        return self._solve(invert, x0, labels, options)

    def decode(self, xT: Tensor, *, labels: Labels | None = None, **options: Unpack[SamplingOptions]) -> Tensor:
        """Return the images that a deterministic sampler makes from `xT`, (B, C, H, W): the inverse of `encode`.

        See `encode` for the labels, the options and the errors.
        """
        return self._solve(trajectory, xT, labels, options)

    @torch.no_grad()
    def _solve(
        self, solve: Callable[..., Iterator[Tensor]], x: Tensor, labels: Labels | None, options: SamplingOptions
    ) -> Tensor:
        """Run `invert` or `trajectory` from `x` to its end, without clipping and without noise."""
        if options.get("sampler") is None:
            options = {**options, "sampler": get("ddim", eta=options.get("eta") or 0.0), "eta": None}
        method, levels = self.sampling.resolve(self.schedule, **options)
        denoise = self.denoise(self._classes(len(x), 0, labels), clip=False)
        with self._evaluating():
            *_, end = solve(method, denoise, x.to(self.device, self.dtype), levels, schedule=self.schedule)
        return end

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def _classes(self, count: int, first: int, labels: Labels | None) -> Tensor | None:
        """Return the label of each image, checked; all classes in turn if `labels` is None."""
        if self.classes is None:
            if labels is not None:
                raise UserError("This model was trained without classes: leave the labels out.")
            return None
        if labels is None:
            return (first + torch.arange(count)) % self.classes
        given = torch.as_tensor(labels, dtype=torch.long)
        if given.shape != (count,) or not ((given >= NULL) & (given < self.classes)).all():
            raise UserError(f"Labels must be {count} classes from 0 to {self.classes - 1}, or -1 for any class.")
        return given
