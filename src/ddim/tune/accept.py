"""Acceptance: a tuned method is kept only if its samples beat those of the best plain solver, from new noise.

Nearness to a teacher is not quality, so the measure is the Fréchet distance to real images or, without any, to the
teacher's own samples from other noise. Guidance is for the class of a sample, which that distance hardly sees: there
the accuracy counts too, the share of samples that a classifier takes for the requested class.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.evaluate.extractors import Classifier, Extractor
from ddim.evaluate.features import features, take
from ddim.evaluate.frechet import frechet, frechet_excess, gaussian
from ddim.evaluate.real import labels_for
from ddim.evaluate.scoring import correct, knows
from ddim.presets import Method, Preset
from ddim.progress import hidden

SURE = 1.64  # standard errors by which a tuned method must be better: 95%, one-sided
CHANCE = 0.05  # largest probability of a sign test that counts as more than chance
ACCURATE = 4  # times as many samples are for the accuracy: few are of the wrong class
REAL = 2000  # images of the reference, spread over all
RESAMPLES = 200  # of the bootstrap for the standard error
Array = NDArray[np.float64]


class Judge:
    """Fréchet distances and accuracies of methods' samples, all from the same noise and with the same classes.

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
        self.names = reference.classes if isinstance(reference, Images) else ()
        self._known: list[tuple[Method, int, _Drawn]] = []

    def _drawn(self, method: Method, part: int = 0) -> "_Drawn":
        """Return what is known of a part of a method's samples, which are drawn at the first request."""
        for known, number, kept in self._known:
            if (known, number) == (method, part):
                return kept
        sampler, _ = method.resolve(self.model.schedule)
        pixels = self.model.sample(
            self.count,
            sampler=sampler,
            spacing=method.times,
            seed=self.seed,
            first=self.first + part * self.count,
            labels=self.labels,
            guidance=method.guidance,
            guidance_interval=method.guidance_interval,
            progress=False,
            pixels=True,
        )
        with hidden():
            drawn = _Drawn(features(self.extractor, pixels), self._correct(pixels))
        self._known.append((method, part, drawn))
        self.tick(self.count * method.evaluations(self.model.schedule))
        return drawn

    def _correct(self, pixels: Tensor) -> NDArray[np.bool_] | None:
        if self.labels is None or not isinstance(self.extractor, Classifier) or not knows(self.extractor, self.names):
            return None
        found: NDArray[np.bool_] = correct(self.extractor, pixels, self.labels, self.names).numpy()
        return found

    def features(self, method: Method) -> Array:
        """Return the features of a method's samples, (N, F)."""
        return self._drawn(method).features

    def accuracies(self, *methods: Method) -> tuple[float, ...] | None:
        """Return the share of samples of the requested class for each method, from equal noise; None if not known."""
        parts = min(sum(known == method for known, *_ in self._known) for method in methods) or 1
        drawn = [[self._drawn(method, part).correct for part in range(parts)] for method in methods]
        shares = [[float(one.mean()) for one in right if one is not None] for right in drawn]
        return tuple(sum(each) / parts for each in shares) if all(shares) else None

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

    def more_accurate(self, method: Method, other: Method) -> bool:
        """Return whether a method's accuracy is higher than another's by more than chance explains.

        By a one-sided sign test on the samples that one of the two gets right and the other does not. `ACCURATE` times
        as many samples are drawn for it, unless the accuracy of the first ones is lower.
        """
        gained = lost = 0
        for part in range(ACCURATE):
            one, two = self._drawn(method, part).correct, self._drawn(other, part).correct
            if one is None or two is None:
                return False
            gained, lost = gained + int((one & ~two).sum()), lost + int((two & ~one).sum())
            if gained < lost:
                return False
        return bool(binom.sf(gained - 1, gained + lost, 0.5) < CHANCE)

    def replaces(self, method: Method, other: Method) -> bool:
        """Return whether a guided method takes the place of another.

        Its distance must be smaller by more than chance explains; or the distance is not larger, and the accuracy is
        higher by more than chance explains.
        """
        as_near = self.distance(method) <= self.distance(other)
        return self.beats(method, other) or (as_near and self.more_accurate(method, other))


class _Drawn(NamedTuple):
    """What is known of a method's samples: their features, (N, F), and whether each is of the requested class, (N,)."""

    features: Array
    correct: NDArray[np.bool_] | None


class Verdict(NamedTuple):
    """What tuning found for one number of network calls."""

    preset: Preset  # the guided or the tuned method if it was accepted, else the best plain solver
    tuned: Method | None  # the best method beyond the plain solvers, without guidance; None if there was none
    tuned_distance: float | None
    guided: Method | None = None  # the accepted guided method, else that of least distance; None if there was none
    guided_distance: float | None = None
    accuracies: tuple[float, ...] | None = None  # of the best plain solver and of the preset; None if not known

    @property
    def accepted(self) -> bool:
        """Whether another method took the place of the plain solvers."""
        return self.preset.tuned


def decide(
    judge: Judge,
    calls: int,
    plain: Sequence[Method],
    tuned: Sequence[Method],
    weights: str,
    reference: str,
    guided: Sequence[Method] = (),
) -> Verdict:
    """Choose between plain solvers, tuned and guided methods, and return the preset with what was measured.

    The tuned method of least distance must beat the best plain solver. Of the guided ones, the first in the order of
    their distances takes the place of the winner if `Judge.replaces` says so.

    Args:
        judge: measures on noise, and in an extractor, that the tuned methods have not seen.
        calls: number of network calls of all of them, guided ones counted twice.
        plain: solvers on named spacings, DDIM among them.
        tuned: other methods without guidance; may be empty.
        weights, reference: for the preset, see `ddim.presets.Preset`.
        guided: methods with guidance; may be empty.
    """
    best, challenger = judge.best(plain), judge.best(tuned) if tuned else None
    winner = challenger if challenger is not None and judge.beats(challenger, best) else best
    ranked = sorted(guided, key=judge.distance)
    replacing = next((method for method in ranked if judge.replaces(method, winner)), None)
    strong = replacing or next(iter(ranked), None)
    winner = replacing or winner
    ddim = judge.best([method for method in plain if method.sampler == "ddim"])
    preset = Preset(
        **vars(winner),
        calls=calls,
        weights=weights,
        distance=judge.distance(winner),
        plain=judge.distance(best),
        ddim=judge.distance(ddim),
        best_plain=best.found,
        best_ddim=ddim.found,
        extractor=judge.extractor.name,
        reference=reference,
        count=judge.count,
    )
    return Verdict(
        preset,
        challenger,
        None if challenger is None else judge.distance(challenger),
        strong,
        None if strong is None else judge.distance(strong),
        judge.accuracies(best, winner),
    )
