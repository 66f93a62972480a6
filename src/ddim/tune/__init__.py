"""Tuning: the solver, the times and a few corrections that serve one model best at a small number of network calls.

Three stages, each usable alone: `candidates`, `refine` and `accept`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ddim import samplers
from ddim.contract import check_data
from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.device import evaluating
from ddim.errors import UserError, number
from ddim.evaluate.extractors import Extractor, choose, get
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.presets import LONGEST, Method, Preset, digest
from ddim.progress import bar, hidden
from ddim.samplers import Sampler
from ddim.timesteps import compared, levels, timesteps
from ddim.tune.accept import ACCURATE, REAL, Judge, Verdict, decide
from ddim.tune.candidates import (
    Costs,
    Teacher,
    between,
    fine_times,
    least_weighted,
    one_call_a_step,
    plain,
    searched,
    teach,
)
from ddim.tune.guided import INTERVALS, KEPT, OTHERS, WEIGHTS, best_of_each_weight, guided
from ddim.tune.refine import DAMPING, REUSED, Distance, parameters, refine
from ddim.tune.refine import MOST as MOST_NUMBERS

__all__ = ["COUNT", "NOISES", "REAL", "Verdict", "image_calls", "search", "tune"]

NOISES = 16  # for refinement, and half of them to screen the plain solvers
BETWEEN = 2  # steps of the teacher between two times of the fine grid
SELECTED = 80  # samples of each method, to choose the finalists
FINALISTS = 4  # of the plain solvers, beside DDIM and the model's default, and of the tuned methods
COUNT = 300  # samples of each method at acceptance, and of the teacher as reference
ROUNDS = 4  # Jacobians for the best method, one for the others
SCREENED = 3  # plain solvers that are kept for being near the teacher
SOLVERS = 4  # beside DDIM, that are refined and take searched times
# Where the noises of selection, of acceptance and of the teacher's reference begin in the seed's sequence.
SELECTED_ON, ACCEPTED_ON, REFERENCE = 1_000_000, 2_000_000, 3_000_000
MOST = 100_000  # samples at acceptance
TRIED = 1 + (1 + REUSED) * len(DAMPING)  # trajectories beside the columns of a Jacobian


def tune(
    model: Denoiser,
    calls: Sequence[int] = (5, 8, 10),
    *,
    images: Images | None = None,
    extractor: str | None = None,
    teacher: str | Sampler = "unipc",
    guidance: bool = True,
    count: int = COUNT,
    seed: int = 0,
    progress: bool = True,
) -> list[Preset]:
    """Return a preset for each number of network calls; nothing is written, and the model is not changed.

    Assign them to `model.presets`, and `model.sample(n, steps=8)` takes the preset of 8 calls.

    A preset is a tuned method if its samples beat those of the best plain solver by more than chance explains;
    otherwise it is that solver. The plain solvers at acceptance are what the model takes by default, DDIM on every
    spacing, and the best others. The measure is the Fréchet distance, on noise that was not tuned on and in an
    extractor that was not tuned on.

    A model with classes may also get a guided method, with fewer steps. It takes the place of the other if its distance
    is smaller by more than chance explains. Where the extractor classifies, it also does if the distance is not larger
    and more samples are of the requested class, by more than chance explains.

    Args:
        model: the model to tune. Samples that are compared with `images` have the classes as often as these, all other
            samples have them in turn.
        calls: numbers of evaluations of the network for an image, each from 1 to T, at most 1,000: a guided network
            call counts twice.
        images: real images to compare with, best held-out ones. None compares with the teacher's samples from other
            noise: tuning needs no images, but then takes the teacher's distribution for the truth.
        extractor: the features at acceptance; None is the data's usual one, see `ddim.evaluate.choose`.
        teacher: a deterministic solver of one network call a step, which takes 60 steps.
        guidance: whether guided methods are among the candidates, if the model has classes and a null class.
        count: number of samples of each method at acceptance.
        seed: of all noise. The same seed gives the same presets, on the same machine.
        progress: whether to show a progress bar.

    Raises:
        UserError: calls out of range, a stochastic teacher, images of another shape than the model's, or a shape that
            the extractors do not take.
    """
    numbers = _check_calls(model, calls)
    total = image_calls(model, calls, images, count, guidance)
    with hidden(not progress), bar(total=total, desc="tuning", unit="call") as shown:
        verdicts = search(
            model,
            numbers,
            images=images,
            extractor=extractor,
            teacher=teacher,
            guidance=guidance,
            count=count,
            seed=seed,
            tick=shown.update,
        )
        return [verdict.preset for verdict in verdicts]


def image_calls(
    model: Denoiser, calls: Sequence[int], images: Images | None = None, count: int = COUNT, guidance: bool = True
) -> int:
    """Return about how many network calls `tune` makes, each image counted. The errors are those of `tune`."""
    total = len(fine_times(model.schedule)) * BETWEEN * (NOISES + (count if images is None else 0))
    for steps in _check_calls(model, calls):
        screened = len(_distinct(plain(model.schedule, steps))) * NOISES // 2
        columns = 0.4 * parameters(steps) + TRIED if steps <= MOST_NUMBERS else 0  # trajectories for a Jacobian
        jacobians = 1.5 * SOLVERS + 4 + ROUNDS - 1  # about one for each start, and further ones for the best
        judged: float = 20 * SELECTED + 10 * count  # about so many methods reach the selection and the acceptance
        if guidance and _takes_guidance(model) and steps > 1:
            solvers = (len(compared()) + OTHERS) * (len(INTERVALS) if steps % 2 == 0 else len(INTERVALS) - 1)
            judged += (0.8 * solvers + KEPT * (len(WEIGHTS) - 1)) * SELECTED
            judged += (len(WEIGHTS) + (ACCURATE - 1) * (images is not None)) * count  # one of two needs the sign test
        total += round(steps * (screened + judged + (jacobians * columns + 64) * NOISES))
    return total


def search(
    model: Denoiser,
    calls: Sequence[int],
    *,
    images: Images | None = None,
    extractor: str | None = None,
    teacher: str | Sampler = "unipc",
    guidance: bool = True,
    count: int = COUNT,
    seed: int = 0,
    tick: Callable[[int], object] = lambda _: None,
) -> Iterator[Verdict]:
    """Yield what was found for each number of network calls; `tick` is called with images times network calls.

    See `tune` for the other arguments and the errors.
    """
    numbers = _check_calls(model, calls)
    fine = fine_times(model.schedule)
    solver = _check_teacher(teacher, model, fine)
    count = number("The count", count, int, 2, MOST)
    if images is not None:
        check_data(images, model.shape, None)
    accepting, selecting = _extractors(model, images, extractor)
    noises = _Noises(model, solver, fine, seed, tick)

    @torch.no_grad()
    def verdicts() -> Iterator[Verdict]:  # a generator, so that the checks above run at the call
        taught = noises.taught()
        reference: Tensor | Images = noises.reference(count) if images is None else images
        compared_with = (
            f"{count} samples of the teacher"
            if images is None
            else f"{min(len(images), REAL)} images of {images.name:.80}"
        )
        selects = Judge(model, selecting, reference, SELECTED_ON, SELECTED, seed, tick)
        accepts = Judge(model, accepting, reference, ACCEPTED_ON, count, seed, tick)
        weights, costs = digest(model.network), Costs(taught, model.schedule)
        for calls in numbers:
            solvers, usual = _distinct(plain(model.schedule, calls)), _usual(model, calls)
            near = sorted(solvers, key=noises.distance(taught, NOISES // 2))  # the nearest to the teacher first
            ddim = [method for method in solvers if method.sampler == "ddim"]
            best = sorted([*usual, *ddim, *near[:SCREENED]], key=selects.distance)[:FINALISTS]
            plain_solvers = _distinct([*usual, *ddim, *best])
            tuned = _tuned(near, noises.distance(taught, NOISES), selects.distance, costs, calls)
            finalists = sorted(tuned, key=selects.distance)[:FINALISTS]
            with_guidance: list[Method] = []
            if guidance and _takes_guidance(model):
                candidates = _distinct(list(guided(model.schedule, calls, near)))
                with_guidance = best_of_each_weight(candidates, selects.distance)
            yield decide(accepts, calls, plain_solvers, finalists, weights, compared_with, with_guidance)

    return verdicts()


class _Noises:
    """What runs the network on the noises of tuning, and on those of the reference."""

    def __init__(
        self,
        model: Denoiser,
        teacher: Sampler,
        fine: Sequence[float],
        seed: int,
        tick: Callable[[int], object],
    ) -> None:
        self.model, self.teacher, self.fine, self.seed, self.tick = model, teacher, fine, seed, tick
        start = torch.empty(NOISES, *model.shape, device=model.device, dtype=model.image_dtype)
        self.start = ImageNoise(seed, range(NOISES))(start)

    def denoise(self, count: int) -> Denoise:
        """Return the network for the first `count` noises of tuning, in eval mode, counted."""
        labels = None if self.model.classes is None else torch.arange(count) % self.model.classes
        denoise = self.model.denoise(labels)

        def counted(x: Tensor, at: Level) -> Prediction:
            self.tick(len(x))
            with evaluating(self.model.network):
                return denoise(x, at)

        return counted

    def taught(self) -> Teacher:
        """Return what the teacher does from the noises of tuning."""
        return teach(self.denoise(NOISES), self.start, self.model.schedule, self.teacher, self.fine, BETWEEN)

    def distance(self, taught: Teacher, count: int) -> Distance:
        """Return the distance to the teacher's end from the first `count` noises."""
        start, end = self.start[:count], taught.end[:count]
        return Distance(self.denoise(count), start, end, self.model.schedule)

    def reference(self, count: int) -> Tensor:
        """Return samples of the teacher from other noise, (count, C, H, W) uint8."""
        self.tick(count * len(self.fine) * BETWEEN)
        times = between(self.fine, BETWEEN)
        return self.model.sample(
            count, sampler=self.teacher, spacing=times, seed=self.seed, first=REFERENCE, progress=False, pixels=True
        )


def _tuned(
    near: Sequence[Method], distance: Distance, judged: Callable[[Method], float], costs: Costs, calls: int
) -> list[Method]:
    """Return methods beyond the plain solvers, which are given with the nearest to the teacher first.

    They are DDIM, and the nearest other solvers with one call a step, on named spacings, on their own searched times,
    and on those of DDIM. Each solver on its nearest named spacing and on DDIM's, and the nearest on searched times, are
    refined by one Jacobian. What is nearest to the teacher then is not always best, so all results are kept, and that
    of the smallest `judged` distance is refined by more. iPNDM on DDIM's searched times is GITS, as published.
    """
    schedule = distance.schedule
    plain = [method for method in near if one_call_a_step(method, schedule)]
    others = [name for name in dict.fromkeys(method.sampler for method in plain) if name != "ddim"][:SOLVERS]
    ddim = list(searched("ddim", costs, calls))
    spaced = next(method.times for method in plain if method.sampler == "ddim")
    starts: list[Method] = []
    own: list[Method] = []  # of each solver the nearest on its own searched times
    for name in ["ddim", *others]:
        named = [method for method in plain if method.sampler == name]
        starts += [named[0], *(method for method in named[1:] if method.times == spaced)]
        weighted = least_weighted(name, schedule, calls)
        methods = [*searched(name, costs, calls), *([weighted] if weighted else [])]
        own += [min(methods, key=distance)] if methods else []
    kinds = (
        [method for method in own if method.sampler == "ddim"],
        [method for method in own if method.sampler != "ddim"],
        [method for name in others for method in _borrowing(name, ddim)],
    )
    starts += [min(kind, key=distance) for kind in kinds if kind]
    refined = [refine(method, distance, 1) for method in starts]
    best = min(refined, key=judged)
    for _ in range(ROUNDS - 1):
        best = refine(best, distance, 1)
        refined.append(best)
    return [method for method in _distinct([*_borrowing("ipndm", ddim), *own, *starts, *refined]) if method not in near]


def _borrowing(name: str, methods: Sequence[Method]) -> list[Method]:
    """Return a solver on the times of other methods."""
    return [replace(one, sampler=name, found=f"{name} on the times of {one.found}") for one in methods]


def _distinct(methods: Sequence[Method]) -> list[Method]:
    """Return the methods without those that differ from an earlier one in words alone."""
    kept: list[Method] = []
    for method in methods:
        if not any(replace(method, found=one.found) == one for one in kept):
            kept.append(method)
    return kept


def _usual(model: Denoiser, calls: int) -> list[Method]:
    """Return what the model does in so many steps without a preset, if that makes so many network calls."""
    sampling = model.sampling
    sampler, visited = sampling.resolve(model.schedule, calls)
    if sampler.calls(visited) != calls:
        return []
    options = {} if sampling.eta is None else {"eta": sampling.eta}
    times = tuple(float(level.t) for level in visited[:-1])
    found = f"{sampling.sampler}, {sampling.spacing}"
    return [Method(sampler=sampling.sampler, times=times, options=options, found=found)]


def _takes_guidance(model: Denoiser) -> bool:
    return model.classes is not None and model.null_class


def _check_calls(model: Denoiser, calls: Sequence[int]) -> list[int]:
    if model.sampling.times:
        raise UserError("This model is distilled, and has the times that it was trained at; tune its teacher instead.")
    numbers = list(calls)
    if not numbers:
        raise UserError("Tuning needs a number of network calls, e.g. calls=(5, 8, 10); got none.")
    N = model.schedule.N
    allowed = f"a whole number from 1 to T = {N}" if N <= LONGEST else f"a whole number from 1 to {LONGEST}"
    return sorted({number("Each number of network calls", one, int, 1, min(N, LONGEST), allowed) for one in numbers})


def _check_teacher(teacher: str | Sampler, model: Denoiser, fine: Sequence[float]) -> Sampler:
    solver = samplers.get(teacher) if isinstance(teacher, str) else teacher
    if not isinstance(solver, Sampler) or solver.stochastic:
        raise UserError(f"The teacher must be a deterministic sampler, e.g. 'unipc'; got {teacher!r}.")
    if solver.calls(levels(model.schedule, timesteps(model.schedule, None, fine))) != len(fine):
        raise UserError(f"The teacher must make one network call a step, e.g. 'unipc'; got {teacher!r}.")
    return solver


def _extractors(model: Denoiser, images: Images | None, name: str | None) -> tuple[Extractor, Extractor]:
    """Return the extractor for acceptance, and another one, by scattering, for the selection before it."""
    channels, height, width = model.shape
    shape, data = (channels, height, width), None if images is None else images.name
    accepting = choose(shape, data) if name is None else get(name, shape)
    return accepting, get("scattering-small" if accepting.name == "scattering" else "scattering", shape)
