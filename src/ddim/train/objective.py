"""What a training minimises: by default the denoising loss on noisy images."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ddim.data.augmentations import resolve
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train import augment
from ddim.train.batches import Prefetcher, draw_batch, lognormal
from ddim.train.loss import BINS, MAX_IMAGES, losses_by_level, weight, weightings
from ddim.train.recipe import Plan


class Measured(NamedTuple):
    """What an objective measures of a model."""

    values: dict[str, Any]  # entries of a line of metrics, "held_out" among them; lists are not tracked
    calls: int  # network calls that the measurement took, counted for each image


class Objective(Protocol):
    """What `fit` minimises; see `Denoising`, and `ddim.distill` for another one.

    Attributes:
        slow: number of a process's first updates that take longer than later ones.
    """

    slow: int

    def losses(self, model: Denoiser, step: int, positions: range) -> Tensor:
        """Return the loss of each image at some positions of an update's batch, (B,), differentiable.

        Its random numbers depend on (seed, step, position) alone.
        """
        ...

    def measure(self, average: Denoiser, held_out: Images, calls: float) -> Measured:
        """Measure a model with averaged weights, in about `calls` network calls at most, counted for each image."""
        ...


class Denoising:
    """The loss of `Denoiser.loss` at random times, weighted by noise level.

    The images' pixels are kept on the model's GPU, as uint8, if they fill at most half of its free memory.

    Raises:
        UserError: a weighting that is not registered, augmentations that the images do not have, or augmentation with a
            network without an input for it.
    """

    slow = 1

    def __init__(self, model: Denoiser, images: Images, plan: Plan) -> None:
        _ = weightings[plan.weighting]  # refuses an unknown name before the first update
        resolve(images.augmentations, images.shape[0], plan.augmentations)
        if plan.augment:
            augment.check_network(model.network)
        self.images, self.plan = images, plan
        on_gpu = model.device.type == "cuda"
        if on_gpu and images.pixels.nbytes <= torch.cuda.mem_get_info(model.device)[0] / 2:
            images = replace(images, pixels=images.pixels.to(model.device))
        cumulative = lognormal(model.schedule) if plan.times == "lognormal" else None
        draw = partial(draw_batch, plan, images, model.schedule.N, cumulative=cumulative)
        self.draw = Prefetcher(draw, model.device) if on_gpu else draw

    def losses(self, model: Denoiser, step: int, positions: range) -> Tensor:
        """Return the weighted loss of each image, see `Objective`."""
        x0, label, t, noise, augmentation, condition = self.draw(step, positions)
        t = model.schedule.times[t]
        memory_format = torch.channels_last if self.plan.channels_last else torch.contiguous_format
        x0 = x0.to(model.device, model.dtype, memory_format=memory_format)
        model.train()
        vectors = {"augmentation": augmentation} if self.plan.augment else {}
        vectors |= {} if model.conditions is None else {"condition": condition}
        if vectors:
            vectors = {name: vector.to(model.device) for name, vector in vectors.items()}
            model = model.with_network(augment.Conditioned(model.network, **vectors))
        losses = model.loss(x0, t, noise.to(x0), None if model.classes is None else label)
        return weight(self.plan.weighting, model.predicts, model.schedule(t)).to(losses) * losses

    def measure(self, average: Denoiser, held_out: Images, calls: float) -> Measured:
        """Return the unweighted loss on held-out and on training images, in all and by noise level."""
        most = int(max(BINS, min(MAX_IMAGES, calls / 2)))
        held, train = (losses_by_level(average, images, max_images=most) for images in (held_out, self.images))
        values = {"held_out": sum(held) / len(held), "train": sum(train) / len(train)}
        levels = {"held_out_by_level": held, "train_by_level": train}
        return Measured({**values, **levels}, sum(min(most, len(images)) for images in (held_out, self.images)))
