"""Validation during training: how close samples are to the held-out images, and whether they are copies.

It is the `ddim.train.best.Validator` of `ddim train`, and brings together training and evaluation, which do not know
each other. The images come from the same noise each time, so that two measurements differ by the weights alone.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.copying import NEXT, flag, nearer_share, nearest, ratio
from ddim.evaluate.extractors import choose
from ddim.evaluate.features import as_pixels, cached_features, features, take
from ddim.evaluate.frechet import frechet, gaussian
from ddim.evaluate.intervals import Array
from ddim.evaluate.kid import kid
from ddim.evaluate.real import labels_like
from ddim.progress import hidden
from ddim.text import counted

LEAST = 10  # held-out images
SAMPLES, PER_FEATURE = 256, 2  # images drawn: at least so many, and so many times the number of features
STEPS = 20  # of the model's default sampler
FIRST = 5_000_000  # index of the first noise; `ddim evaluate` takes those from 0 on
COMPARED = 1000  # held-out images in the search for copies, at most


class Validation:
    """Measures the samples of a model that is being trained.

    The distance is the Fréchet distance in the features of the data's usual extractor. With no more held-out images
    than features it is KID, which is unbiased for any number of images.

    Args:
        model: the model to train, for its classes, number of training steps and device.
        training, held_out: the images that it is trained on, and those that it is not.

    Raises:
        UserError: fewer than ten held-out images, or images of a shape that the extractor does not take.
    """

    def __init__(self, model: Denoiser, training: Images, held_out: Images) -> None:
        if len(held_out) < LEAST:
            raise UserError(
                f"{training.name} has {counted(len(held_out), 'held-out image')}, and the distance of samples to fewer "
                f"than {LEAST} says little; add images, or put them into folders train/ and test/."
            )
        self.training, self.held_out, self.device = training, held_out, model.device
        self.extractor = choose(held_out.shape, held_out.name)
        self.metric = "frechet" if len(held_out) > self.extractor.dim else "kid"
        self.samples = max(SAMPLES, PER_FEATURE * self.extractor.dim if self.metric == "frechet" else 0)
        self.steps = min(STEPS, model.schedule.N)
        self.calls = self.samples * self.steps
        self.labels = None if model.classes is None else labels_like(training, self.samples)

    def measure(self, model: Denoiser) -> dict[str, float]:
        """Return the distance of samples to the held-out images, and the result of the search for copies.

        The entries are "frechet" or "kid", then "copies", the share of samples that are flagged, "copies_p", the
        probability of so many or more without copying, and "nearer"; see `ddim.evaluate.copying.Memorisation`.
        """
        with hidden():
            samples = model.sample(self.samples, steps=self.steps, first=FIRST, labels=self.labels, pixels=True)
            x = features(self.extractor, samples)
            distance = kid(x, self._real) if self.metric == "kid" else frechet(gaussian(x), self._gaussian)
            values = {self.metric: distance}
            if len(self.training) > NEXT:
                ratios, distances = self._near(samples)
                _, flagged, _, p = flag(ratios, self._held_out_near[0])
                nearer, _ = nearer_share(distances, self._held_out_near[1])
                values |= {"copies": flagged / len(samples), "copies_p": p, "nearer": nearer}
        return values

    def describe(self) -> dict[str, Any]:
        """Return how it measures."""
        return {
            "metric": self.metric,
            "extractor": self.extractor.name,
            "fingerprint": self.extractor.fingerprint,
            "samples": self.samples,
            "steps": self.steps,
            "held_out": len(self.held_out),
        }

    @cached_property
    def _real(self) -> Array:
        return cached_features(self.extractor, self.held_out)

    @cached_property
    def _gaussian(self) -> Any:
        return gaussian(self._real)

    @cached_property
    def _held_out_near(self) -> tuple[Array, Array]:
        rows = np.random.default_rng(0).permutation(len(self.held_out))[:COMPARED]
        return self._near(as_pixels(take(self.held_out, torch.from_numpy(np.sort(rows)))))

    def _near(self, pixels: torch.Tensor) -> tuple[Array, Array]:
        """Return the ratio of each image, and its distance to the nearest training image."""
        near = nearest(pixels, as_pixels(self.training), NEXT + 1, self.training.mirror, self.device)
        return ratio(near), near.distances[:, 0]
