"""Choose the network calls and the batch size of `Denoiser.sample`: for a time, or for a quality that tuning measured.

Sampling N images in batches of B, with n network calls for each image and g further ones that are guided, takes

    t = floor(N / B) b(B) + b(N mod B),   b(r) = once(r) + n call(r) + g guided(r),   b(0) = 0

seconds. A guided call also evaluates the network for the null class, or the weak model. The costs of a batch are
measured at two sizes; other sizes lie on the line through them.
"""

import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any, NamedTuple

from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError, number
from ddim.guidance import EVERYWHERE, Interval, check_interval, contains
from ddim.presets import Preset, digest, guidance_of
from ddim.text import counted

EQUAL = 1.1  # times the smallest distance: a distance up to there is equally good, as S = 100 is in DDIM's Table 1
PLANNED = 0.9  # share of the seconds; the rest is for files and for a machine that is slower than measured
MOST = 100  # steps of a model without presets; DDIM's Table 1 counts 100 as equally good as 1,000
BATCH = 64  # the larger of the two sizes, and the batch of `Denoiser.sample`
FASTER = 1.1  # a smaller batch must be faster by this factor
STEPS, ROUNDS = 3, 20  # steps of a measurement, and how often at most
LEAST, SHARE = 1.0, 0.05  # seconds of the measurements at one size, and the same as a share of the time to plan for


class Calls(NamedTuple):
    """Network calls for an image: those without guidance, and those with it, which evaluate the network twice."""

    plain: float
    guided: float = 0.0


class Cost(NamedTuple):
    """Measured seconds of a batch.

    Attributes:
        size: number of images.
        call: seconds of a network call.
        once: seconds of the rest, whatever the number of calls: the noise, and the copy of the images.
        guided: seconds of a guided call; None is twice those of a call.
    """

    size: int
    call: float
    once: float = 0.0
    guided: float | None = None

    def seconds(self, calls: Calls) -> float:
        """Return the seconds of the batch."""
        guided = 2 * self.call if self.guided is None else self.guided
        return self.once + calls.plain * self.call + calls.guided * guided


class SamplingPlan(NamedTuple):
    """How to sample, and why.

    Attributes:
        steps: of `Denoiser.sample`, which takes the preset of so many network calls where the model has one.
        batch_size: of `Denoiser.sample`.
        calls: network calls for an image, without and with guidance.
        seconds: that sampling is expected to take; None if nothing was measured.
        fits: whether that is in the time that was given.
        reason: the plan and what led to it, in one sentence.
    """

    steps: int
    batch_size: int
    calls: Calls
    seconds: float | None
    fits: bool
    reason: str

    def options(self) -> dict[str, Any]:
        """Return the options of `Denoiser.sample`."""
        return {"steps": self.steps, "batch_size": self.batch_size}


def plan(
    model: Denoiser,
    count: int,
    *,
    seconds: float | None = None,
    quality: str | None = None,
    guidance: float | None = None,
    guidance_interval: Interval | None = None,
    weak: Denoiser | None = None,
    costs: Sequence[Cost] | None = None,
) -> SamplingPlan:
    """Return how to sample so many images: `model.sample(count, **plan(...).options())`, with the same guidance.

    For a time, it is the preset with the smallest Fréchet distance of those that fit. If none fits or the model has
    none, it is the model's usual sampler with as many steps as fit, at most 100 or the default. If no step fits, it is
    one step. A tenth of the time is kept in reserve.

    Args:
        model: the model, with what serves its network. Its presets count if they were tuned for its weights.
        count: number of images, at least 1.
        seconds: time for the sampling itself, above 0. Loading the model, the preparation of its backend and the
            measurement come before it.
        quality: in place of `seconds`. "best" is the preset with the smallest distance, "fast" the one with the fewest
            calls among those whose distance is at most 10% larger. Without presets, both are the model's default.
        guidance, guidance_interval, weak: see `Denoiser.sample`.
        costs: for `seconds`, the costs of batches; None measures them now, see `measure`.

    Raises:
        UserError: a number out of range, an unknown quality, both or neither of `seconds` and `quality`, or what
            `Denoiser.sample` refuses.
    """
    count = number("count", count, int, 1, 2**64)
    if (seconds is None) == (quality is None):
        raise UserError("A plan is for a number of seconds or for a quality, best or fast; give one of the two.")
    ways = _Ways(model, guidance, guidance_interval, weak)
    if quality is not None:
        steps, why = ways.of_quality(quality)
        return SamplingPlan(steps, BATCH, ways.calls(steps), None, True, f"Plan: {ways.describe(steps)}, {why}.")
    limit = number("seconds", seconds, float, math.ulp(0.0), allowed="a number above 0")
    known = measure(model, count, guidance=ways.weight, weak=weak, seconds=limit) if costs is None else costs
    table = {cost.size: cost for cost in known}
    if min(table, default=0) < 1:
        raise UserError(f"The costs are those of batches of at least 1 image, one or more; got {list(known)!r:.80}.")
    steps, why = ways.in_time(PLANNED * limit, count, table)
    calls = ways.calls(steps)
    expected, size = quickest(calls, count, table)
    fits = expected <= limit
    if fits:
        why += f"; {counted(count, 'image')} in batches of {size}: about {_short(expected)} of the {limit:g} seconds"
        why += ", after loading"
    else:
        why = f"the least, which takes about {_short(expected)} and not {limit:g} seconds after loading; "
        why += f"{_fitting(calls, count, table, PLANNED * limit)} would fit"
    return SamplingPlan(steps, size, calls, expected, fits, f"Plan: {ways.describe(steps)}, {why}.")


def quickest(calls: Calls, count: int, costs: Mapping[int, Cost]) -> tuple[float, int]:
    """Return the seconds of so many images in the batches that take the least time, and the size of these.

    A smaller batch is chosen only if it is faster by a tenth, as a smaller difference may be noise.

    Args:
        calls: network calls for each image.
        count: number of images.
        costs: size -> what a batch of it costs; these sizes are compared.
    """
    found = {}
    for size in {min(size, count) for size in costs}:
        full, rest = divmod(count, size)
        last = _between(costs, rest).seconds(calls) if rest else 0.0
        found[size] = full * _between(costs, size).seconds(calls) + last
    size = min(found, key=lambda one: found[one] * (1 if one == max(found) else FASTER))
    return found[size], size


def measure(
    model: Denoiser, count: int, *, guidance: float = 1.0, weak: Denoiser | None = None, seconds: float = 0.0
) -> list[Cost]:
    """Return what a batch costs at two sizes: `BATCH`, or all images if they are fewer, and a quarter of that.

    The backend that will serve is prepared first, and computes every size of batch once before it is timed. A call
    includes the arithmetic of the model's usual sampler.

    Args:
        model, count, guidance, weak, seconds: see `plan`. A longer time is planned from longer measurements.
    """
    large, weights = min(count, BATCH), [1.0] if guidance == 1 else [1.0, guidance]
    sizes, longest = sorted({-(-large // 4), large}), max(LEAST, SHARE * seconds)
    weak = None if guidance == 1 else weak
    for one, size, weight in product(filter(None, (model, weak)), sizes, weights):
        one.prepare(size, 1.0 if weak else weight)
    schedule, usual = model.schedule, model.sampling
    times = [[schedule.T * (steps - i) / steps for i in range(steps)] for steps in (1, STEPS)]
    resolved = [usual.resolve(schedule, spacing=spacing) for spacing in times]
    least, most = (sampler.calls(levels) for sampler, levels in resolved)

    def once(size: int, spacing: list[float], weight: float) -> float:
        options: dict[str, Any] = {"guidance": weight, "weak": weak, "batch_size": size, "progress": False}
        began = time.perf_counter()
        model.sample(size, spacing=spacing, pixels=True, **options)
        return time.perf_counter() - began

    def timed(size: int, weight: float) -> tuple[float, float]:
        """Return the seconds of a call, and of the rest."""
        began, rounds = time.perf_counter(), list[tuple[float, float]]()
        while not rounds or (len(rounds) < ROUNDS and time.perf_counter() - began < longest):
            rounds.append((once(size, times[0], weight), once(size, times[1], weight)))
        one, several = (median(column) for column in zip(*rounds, strict=True))
        call = (several - one) / (most - least)
        call = min(max(call, several / (2 * most)), several / most)  # the bounds are for a noisy machine
        return call, several - most * call

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # those of `sample` come again with the images
        for size, weight in product({*sizes, *(count % size for size in sizes)} - {0}, weights):
            once(size, times[0], weight)
        return [Cost(size, *timed(size, 1.0), None if guidance == 1 else timed(size, guidance)[0]) for size in sizes]


class _Ways:
    """A model's presets, and its usual sampler with any number of steps, with the guidance that a request names."""

    def __init__(
        self, model: Denoiser, guidance: float | None, interval: Interval | None, weak: Denoiser | None
    ) -> None:
        weights = digest(model.network) if model.presets else ""
        self.model = model
        self.presets = {preset.calls: preset for preset in model.presets if preset.weights == weights}
        interval = None if interval is None else check_interval(interval)
        self.requested = partial(guidance_of, guidance=guidance, interval=interval, weak=weak)
        self.comparable = len({preset.measure for preset in self.presets.values()}) < 2

    @property
    def weight(self) -> float:
        """Return a weight that is not 1 if some way is guided."""
        weights = (self.requested(preset)[0] for preset in (None, *self.presets.values()))
        return next((weight for weight in weights if weight != 1), 1.0)

    def calls(self, steps: int) -> Calls:
        """Return the network calls for an image."""
        preset, schedule = self.presets.get(steps), self.model.schedule
        if preset is not None and self._own(preset):
            return Calls(*preset.network_calls(schedule))
        weight, interval = self.requested(preset)
        sampler, levels = preset.resolve(schedule) if preset else self.model.sampling.resolve(schedule, steps)
        inside = 0 if weight == 1 else sum(bool(contains(interval or EVERYWHERE, at)) for at in levels[:-1])
        total, share = sampler.calls(levels), inside / (len(levels) - 1)
        return Calls(total * (1 - share), total * share)

    def of_quality(self, quality: str) -> tuple[int, str]:
        """Return the steps for "best" or "fast", and why. Raises `UserError` for another word."""
        if quality not in ("best", "fast"):
            raise UserError(f"There is no quality {quality!r:.80}; choose best or fast.")
        if not self.presets:
            known = "it is distilled" if self.model.sampling.times else self._untuned()
            return min(self.model.sampling.steps, self.model.schedule.N), f"the model's default ({known})"
        best = self._best(self.presets.values())
        if quality == "best":
            return best.calls, self._why(best, "its presets")
        alike = [preset for preset in self.presets.values() if preset.measure == best.measure]
        found = min((one for one in alike if one.distance <= EQUAL * best.distance), key=lambda one: one.calls)
        return found.calls, (
            f"the fewest calls whose Fréchet distance, {found.distance:.3g}, is at most {EQUAL - 1:.0%} above the "
            f"smallest of its presets, {best.distance:.3g}"
        )

    def in_time(self, limit: float, count: int, costs: Mapping[int, Cost]) -> tuple[int, str]:
        """Return the steps of the best way for so many images in so many seconds, and why: 1 step if nothing fits."""

        def fits(calls: Calls) -> bool:
            return quickest(calls, count, costs)[0] <= limit

        fitting = [preset for steps, preset in self.presets.items() if fits(self.calls(steps))]
        if fitting:
            return (best := self._best(fitting)).calls, self._why(best, "the presets that fit")
        sampling = self.model.sampling
        most = min(self.model.schedule.N, max(sampling.steps, MOST))
        possible = sorted(map(len, sampling.times)) or range(1, most + 1)
        # A step makes at least one call: the first condition saves the work of the second.
        found = next((n for n in reversed(possible) if fits(Calls(n)) and fits(self.calls(n))), possible[0])
        known = "it is distilled" if sampling.times else "no preset fits" if self.presets else self._untuned()
        return found, f"as many as {'help' if found == possible[-1] else 'fit'} ({known})"

    def describe(self, steps: int) -> str:
        """Return the way with so many steps as text."""
        preset, calls = self.presets.get(steps), self.calls(steps)
        evaluations = f"{calls.plain + 2 * calls.guided:.3g}"
        own = preset is not None and self._own(preset)
        plain = own or self.requested(preset)[0] == 1
        guided = "" if plain else f", {evaluations} evaluations of the network with guidance"
        if preset is not None:
            return f"the {preset.describe(own)}{guided}"
        return self.model.sampling.describe(steps=steps, schedule=self.model.schedule) + guided

    def _own(self, preset: Preset) -> bool:
        """Return whether a preset keeps its own guidance."""
        return self.requested(preset) == (preset.guidance, preset.guidance_interval)

    def _best(self, presets: Iterable[Preset]) -> Preset:
        """Return the preset of the smallest distance; if they were measured in different ways, of the most calls."""
        return min(presets, key=lambda one: (one.distance if self.comparable else -one.calls, one.calls))

    def _why(self, best: Preset, those: str) -> str:
        if self.comparable:
            return f"the smallest Fréchet distance of {those}, {best.distance:.3g}"
        return f"the most calls of {those}, whose distances were measured in different ways"

    def _untuned(self) -> str:
        return f"{'its presets are stale' if self.model.presets else 'it has no presets'}, see `ddim tune`"


def _between(costs: Mapping[int, Cost], rows: int) -> Cost:
    """Return the cost of a batch of so many images, on the line through the smallest and the largest known one.

    If one is known, the cost is proportional to the number of images. An image never costs less in a smaller batch.
    """
    first, last = costs[min(costs)] if len(costs) > 1 else Cost(0, 0.0), costs[max(costs)]
    x = (rows - first.size) / (last.size - first.size)

    def line(low: float, high: float) -> float:
        return max(low * min(1.0, rows / max(first.size, 1)), low + x * (high - low))

    guided = None if last.guided is None else line(first.guided or 0.0, last.guided)
    return Cost(rows, line(first.call, last.call), line(first.once, last.once), guided)


def _fitting(calls: Calls, count: int, costs: Mapping[int, Cost], limit: float) -> str:
    """Return how many images fit into a limit."""
    fit = int(count * limit / quickest(calls, count, costs)[0])
    while fit and quickest(calls, fit, costs)[0] > limit:  # fewer images need more time each
        fit = fit * 19 // 20
    return counted(fit, "image") if fit else "not even one image"


def _short(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:,.0f}"
