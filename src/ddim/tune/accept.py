"""Acceptance: a tuned method is kept only if its samples beat those of every plain solver, from noise of their own.

Nearness to a teacher is not quality, so the measure is the Fréchet distance to real images or, without any, to the
teacher's own samples from other noise.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.evaluate.extractors import Extractor
from ddim.evaluate.features import features, take
from ddim.evaluate.frechet import frechet, frechet_excess, gaussian
from ddim.evaluate.real import labels_for
from ddim.presets import Method, Preset
from ddim.progress import hidden

SURE = 1.64  # standard errors by which a tuned method must be better: 95%, one-sided
REAL = 2000  # images of the reference, spread over all
RESAMPLES = 200  # of the bootstrap for the standard error
Array = NDArray[np.float64]


class Judge:
    """Fréchet distances of methods' samples, all from the same noise and with the same classes.

    Args:
        model: what is sampled.
        extractor: the features.
        reference: the images to compare with, (M, C, H, W) uint8 or `Images`; of more than `REAL`, so many.
        first: index of the first noise of the seed.
        count: number of samples.
        seed: of the noise and of the bootstrap.
        tick: is called with the number of images times network calls of each method that is sampled.
    """

    def __init__(
        self,
        model: Denoiser,
        extractor: Extractor,
        reference: Tensor | Images,
        first: int,
        count: int,
        seed: int,
        tick: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.model, self.extractor, self.first, self.count = model, extractor, first, count
        self.seed, self.tick = seed, tick
        self.labels = labels_for(model, reference, count)[0] if isinstance(reference, Images) else None
        rows = torch.arange(min(len(reference), REAL)) * len(reference) // min(len(reference), REAL)
        with hidden():
            self.real = features(extractor, take(reference, rows))
        self._gaussian = gaussian(self.real)
        self._known: list[tuple[Method, Array]] = []

    def features(self, method: Method) -> Array:
        """Return the features of a method's samples, (N, F), drawn at the first request."""
        for known, kept in self._known:
            if known == method:
                return kept
        sampler, levels = method.resolve(self.model.schedule)
        pixels = self.model.sample(
            self.count,
            sampler=sampler,
            spacing=method.times,
            seed=self.seed,
            first=self.first,
            labels=self.labels,
            progress=False,
            pixels=True,
        )
        with hidden():
            drawn = features(self.extractor, pixels)
        self._known.append((method, drawn))
        self.tick(self.count * sampler.calls(levels))
        return drawn

    def distance(self, method: Method) -> float:
        """Return the Fréchet distance of a method's samples from the reference."""
        return frechet(gaussian(self.features(method)), self._gaussian)

    def best(self, methods: Sequence[Method]) -> Method:
        """Return the method of least distance, the first of equals."""
        return min(methods, key=self.distance)

    def beats(self, method: Method, other: Method) -> bool:
        """Return whether a method's distance is smaller than another's by more than chance explains."""
        excess = frechet_excess(self.features(method), self.features(other), self.real, RESAMPLES, self.seed)
        return excess.value + SURE * excess.error < 0


class Verdict(NamedTuple):
    """What tuning found for one number of network calls."""

    preset: Preset  # the tuned method if it was accepted, else the best plain solver
    tuned: Method | None  # the best method beyond the plain solvers; None if there was none
    tuned_distance: float | None

    @property
    def accepted(self) -> bool:
        """Whether the tuned method beat every plain solver."""
        return self.preset.tuned


def decide(
    judge: Judge, calls: int, plain: Sequence[Method], tuned: Sequence[Method], weights: str, reference: str
) -> Verdict:
    """Choose between plain solvers and tuned methods, and return the preset with what was measured.

    Args:
        judge: measures on noise, and in an extractor, that the tuned methods have not seen.
        calls: number of network calls of all of them.
        plain: solvers on named spacings, DDIM among them.
        tuned: other methods; may be empty.
        weights, reference: for the preset, see `ddim.presets.Preset`.
    """
    best, challenger = judge.best(plain), judge.best(tuned) if tuned else None
    winner = challenger if challenger is not None and judge.beats(challenger, best) else best
    preset = Preset(
        **vars(winner),
        calls=calls,
        weights=weights,
        distance=judge.distance(winner),
        plain=judge.distance(best),
        ddim=min(judge.distance(method) for method in plain if method.sampler == "ddim"),
        best_plain=best.found,
        extractor=judge.extractor.name,
        reference=reference,
        count=judge.count,
    )
    return Verdict(preset, challenger, None if challenger is None else judge.distance(challenger))
