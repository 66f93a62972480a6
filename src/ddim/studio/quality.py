"""How good the samples of a solver are: their KID to held-out images and, of digits, their accuracy."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ddim.config import read_config
from ddim.data import Images, names, open_images
from ddim.data.download import cache_folder
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.evaluate.extractors import Classifier, Extractor, choose
from ddim.evaluate.features import as_pixels, cached_features, features, take
from ddim.evaluate.intervals import Array, Estimate, confidence_interval, wilson
from ddim.evaluate.kid import kid, kid_error
from ddim.evaluate.metrics import LIMITS
from ddim.evaluate.scoring import correct, knows
from ddim.files import as_table
from ddim.loading import find
from ddim.progress import hidden
from ddim.studio.sample import Solver
from ddim.train.recipe import training_data
from ddim.validation import LEAST

MOST_HELD_OUT = 2000  # images: more take longer and narrow the interval of a few samples little
RESAMPLES = 200  # of the bootstrap


@dataclass(frozen=True)
class Standard:
    """What the samples of a model are measured by.

    Attributes:
        extractor: of the features that are compared.
        classes: names of the classes that the model was trained on.
        held_out: (M, F), features of held-out images; None without them.
        reason: why there are none, as a sentence.
    """

    extractor: Extractor
    classes: tuple[str, ...] = ()
    held_out: Array | None = None
    reason: str = ""

    def knows(self, model: Denoiser) -> bool:
        """Return whether the accuracy of samples of a model can be measured."""
        return len(self.classes) == model.classes and knows(self.extractor, self.classes)

    def describe(self, model: Denoiser) -> str:
        """Return what the metrics of samples of a model are, as one sentence, and why there is no KID."""
        parts = [] if self.held_out is None else [f"KID, about 0 for real images, in {self.extractor.about}"]
        parts += ["accuracy, the share that a classifier assigns to the requested class"] if self.knows(model) else []
        kinds = "" if model.classes is None else " of all classes"
        metrics = f"Metrics of samples{kinds}, with 95% intervals: {'; '.join(parts)}." if parts else ""
        return f"{metrics} {self.reason}".strip()


@dataclass(frozen=True)
class Quality:
    """The metrics of `count` samples. None is not measured; the KID is compared with `held_out` images."""

    count: int
    kid: Estimate | None = None
    accuracy: float | None = None
    held_out: int = 0

    def describe(self) -> str:
        """Return the metrics with their 95% intervals as sentences."""
        parts = []
        if self.kid is not None:
            low, high = confidence_interval(*self.kid, LIMITS["kid"])
            about = f"of {self.count} samples to {self.held_out:,} held-out images"
            parts.append(f"KID {self.kid.value:.3g} [{low:.3g}, {high:.3g}] {about}.")
        if self.accuracy is not None:
            low, high = wilson(self.accuracy, self.count)
            parts.append(f"Accuracy {self.accuracy:.0%} [{low:.0%}, {high:.0%}] of {self.count} samples.")
        return " ".join(parts)


def standard(name: str, model: Denoiser) -> Standard:
    """Return what the samples of a model of `ddim.load` are measured by. Nothing is downloaded.

    Raises:
        UserError: a model that does not say what it was trained on, or images that no extractor takes.
    """
    config = read_config(find(name))
    data = as_table(config.get("recipe")).get("data")
    if not isinstance(data, str):
        raise UserError(f"{name} does not say which images it was trained on, so no metric is measured.")
    classes = tuple(map(str, as_table(config.get("data")).get("classes") or ()))
    channels, height, width = model.shape
    found = Standard(choose((channels, height, width), data), classes)
    try:
        images = _held_out(training_data(config, name, "so no KID is measured."))
    except UserError as error:
        return replace(found, reason=str(error))
    if len(images) < LEAST:
        return replace(found, reason=f"{data} has {len(images)} held-out images, too few for a KID.")
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST_HELD_OUT]
    with hidden():
        return replace(found, held_out=cached_features(found.extractor, take(images, rows.sort().values)))


def _held_out(options: dict[str, Any]) -> Images:
    """Return the held-out images of a run, if they are on this machine. `options` are of `ddim.open_images`."""
    options, data = {**options, "split": "test"}, options["name_or_path"]
    if data == "digits" or (data not in names() and Path(data).exists()):  # the digits come with scikit-learn
        return open_images(**options)
    places = [os.environ.get("DDIM_DATA"), str(cache_folder())] if data in names() else []
    for place in filter(None, places):  # given a place, `open_images` downloads nothing
        try:
            return open_images(**options, data_dir=place)
        except UserError:  # they are not there
            continue
    raise UserError(f"The held-out images of {data} are not on this machine, so no KID is measured.")


def measure(model: Denoiser, solver: Solver, seed: int, count: int, by: Standard) -> Quality:
    """Measure the first samples of a seed, of all classes in turn. Raises `UserError` as `Denoiser.sample` does."""
    labels = None if model.classes is None else torch.arange(count) % model.classes
    samples = model.sample(count, labels=labels, seed=seed, progress=False, pixels=True, **solver.options())
    pixels, distance, accuracy = as_pixels(samples), None, None
    if by.held_out is not None:
        with hidden():
            x = features(by.extractor, pixels)
        distance = Estimate(kid(x, by.held_out), kid_error(x, by.held_out, RESAMPLES, seed=0))
    if labels is not None and isinstance(by.extractor, Classifier) and by.knows(model):
        accuracy = correct(by.extractor, pixels, labels, by.classes).double().mean().item()
    return Quality(count, distance, accuracy, 0 if by.held_out is None else len(by.held_out))
