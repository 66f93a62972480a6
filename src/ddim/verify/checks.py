"""All proofs: the order, exactness, calls and repeatability of each solver, and the identities of DDIM's paper."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor

from ddim import samplers, timesteps
from ddim.errors import UserError
from ddim.level import Denoise, Level, Noise, Prediction
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.schedule import Schedule, linear
from ddim.verify import orders
from ddim.verify.exact import GAUSSIAN, MIXTURE, POINT, sampled
from ddim.verify.orders import SCHEDULE, law_error, stretched
from ddim.verify.verdict import Proof, Verdict, worst

Factory = Callable[[], Sampler]
"""Returns a new sampler, so that no proof depends on the state that another left."""
Family = Callable[[float], Sampler]
"""eta -> a sampler."""

COUNTS = (1, 2, 3, 5, 10, 20, 50)  # steps
ROUNDING = 1e-9
IMAGES = 3
TIMES = (2, 10, 300, 999, 1000)
TOLERANCE = 0.2  # a measured order may be lower by so much
SAMPLES, SAMPLED_STEPS = 40_000, 160
SIGMAS = 4.5  # standard errors that chance may add


def solvers(only: Sequence[str] | None = None) -> dict[str, Factory]:
    """Return a factory for each registered solver and each of its `variants`, or for the named solvers only.

    Raises:
        UserError: an unknown name.
    """
    factories: dict[str, Factory] = {}
    for name in samplers.names() if only is None else only:
        samplers.get(name)  # refuses an unknown name
        factories[name] = partial(samplers.get, name)
    if only is None:
        for name, sampler in samplers.samplers.items():
            for options in getattr(sampler, "__dict__", {}).get("variants", ()):
                text = ", ".join(f"{option} = {value}" for option, value in options.items())
                factories[f"{name}, {text}"] = partial(samplers.get, name, **options)
    return factories


def verify(sampler: str | Sampler | Factory) -> Verdict:
    """Return what `ddim verify` finds about one sampler, e.g. one of your own: `print` shows it as a table.

    Args:
        sampler: an instance, of which each test takes a copy; a class or function that makes one without arguments; or
            a registered name.

    Raises:
        UserError: an unknown name, or anything that is no sampler.
    """
    if isinstance(sampler, str):
        return judge(sampler, solvers([sampler])[sampler])
    factory = partial(copy.deepcopy, sampler) if isinstance(sampler, Sampler) else sampler
    first = factory() if callable(factory) else factory
    if not isinstance(first, Sampler):
        raise UserError(f"A sampler is a ddim.samplers.Sampler, a class of them, or a name; got {sampler!r:.80}.")
    return judge(repr(first), factory)


def judge(name: str, factory: Factory) -> Verdict:
    """Return the verdict on one solver, which the report calls `name`."""
    sampler = factory()
    curves = orders.measure(factory)
    proofs = []
    for problem in dict.fromkeys(curve.problem for curve in curves):
        lowest = -worst(-curve.order for curve in curves if curve.problem == problem)
        proofs.append(Proof(problem, lowest, sampler.order - TOLERANCE, "least"))
    if sampler.stochastic:
        proofs.append(mixture_samples(factory))
    proofs += [check(factory) for check in (point_mass, promised_calls, repeatable, independent_of_batch)]
    calls = calls_per_step(sampler)
    return Verdict(name, sampler.order, sampler.stochastic, calls, tuple(proofs), tuple(curves))


def mixture_samples(factory: Factory) -> Proof:
    """Check the mean and the standard deviation of many samples of the mixture.

    The difference between S and S / 2 steps estimates the bias at S steps, which is allowed on top of chance. The
    value is the larger of the two errors over the allowed error, so it must not exceed 1.
    """
    coarse, fine = (
        sampled(factory(), MIXTURE, stretched(S), SCHEDULE, SAMPLES) for S in (SAMPLED_STEPS // 2, SAMPLED_STEPS)
    )
    exact = MIXTURE.law(stretched(1)[-1])
    chance = SIGMAS * float(exact.std) / math.sqrt(SAMPLES)
    values = []
    for at_fine, at_coarse, at_exact in zip(fine, coarse, exact, strict=True):
        values.append(float((at_fine - at_exact).abs()) / (chance + float((at_fine - at_coarse).abs())))
    return Proof("samples", worst(values), 1.0)


def promised_calls(factory: Factory) -> Proof:
    """Check for every spacing that `calls` is correct, that no call is at t = 0, and that the end is finite.

    The value is the number of trajectories for which that is false.
    """
    cases = product(timesteps.names(), COUNTS)
    return Proof("calls", sum(not _keeps_calls(factory(), spacing, S) for spacing, S in cases), 0)


def _keeps_calls(sampler: Sampler, spacing: str, S: int) -> bool:
    schedule, called = linear(), []

    def denoise(x: Tensor, at: Level) -> Prediction:
        called.append(at)
        return GAUSSIAN.denoise(x, at)

    levels = timesteps.levels(schedule, timesteps.timesteps(schedule, S, spacing))
    end = _run(sampler, denoise, levels, range(IMAGES), schedule)
    at_zero = any((at.sigma == 0).any() for at in called)  # where no network is trained
    return len(called) == sampler.calls(levels) and not at_zero and bool(end.isfinite().all())


def repeatable(factory: Factory) -> Proof:
    """Check that equal inputs give equal bits; the value is the largest difference."""
    first, second = (_example(factory, range(IMAGES)) for _ in range(2))
    return Proof("repeat", _difference(first, second), 0)


def independent_of_batch(factory: Factory) -> Proof:
    """Check that an image alone equals the image in a batch, bit for bit; the value is the largest difference."""
    alone = torch.cat([_example(factory, [i]) for i in range(IMAGES)])
    return Proof("batch", _difference(alone, _example(factory, range(IMAGES))), 0)


def point_mass(factory: Factory) -> Proof:
    """Check that steps are exact for a single possible image: x_s = alpha_s x0 + sigma_s eps, in mean and std.

    It holds at any steps: here 7 uneven ones that end above t = 0, the same and one more to t = 0, and the single
    step [T, 0].
    """
    to_zero, from_T = SCHEDULE(0.0), SCHEDULE(float(SCHEDULE.T))
    cases = [stretched(7), [*stretched(7), to_zero], [from_T, to_zero]]
    errors = [law_error(factory(), POINT, levels) for levels in cases]
    return Proof("point mass", max(e if math.isfinite(e) else math.inf for e in errors), ROUNDING)


def calls_per_step(sampler: Sampler, S: int = 50) -> float:
    """Return the network calls per step over S steps."""
    schedule = linear()
    return sampler.calls(timesteps.levels(schedule, timesteps.timesteps(schedule, S))) / S


def prove_identities(family: Family = DDIM) -> Iterator[Proof]:
    """Yield a proof for each identity that DDIM's paper states of its family; a value is the largest difference."""
    yield Proof("eta = 0: one step is alpha_s x0 + sigma_s eps (Eq. 12)", _one_step(family(0.0)), ROUNDING)
    yield Proof("eta = 1: the mean and variance of DDPM's posterior (DDPM, Eqs. 6 and 7)", _ddpm(family(1.0)), ROUNDING)
    claim = "every eta: q(x_s | x_0) is kept (DDIM, Lemma 1)"
    cases = product((0.0, 0.2, 0.5, 0.8, 1.0), (stretched(5), stretched(5)[:2]))
    yield Proof(claim, worst(law_error(family(eta), POINT, levels) for eta, levels in cases), ROUNDING)
    claim = "every eta: the injected standard deviation is eta times DDPM's (Eq. 16)"
    yield Proof(claim, worst(_injected(family, eta) for eta in (0.2, 0.5, 0.8)), ROUNDING)


def _one_step(sampler: Sampler) -> float:
    """With x0 and eps that depend on x, as those of a trained network do."""
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 1, 1, 4)
    errors = []
    for at, to in product([SCHEDULE(1000.0), SCHEDULE(333.3)], [SCHEDULE(300.5), SCHEDULE(0.0)]):
        x0, eps = GAUSSIAN.denoise(x, at)
        end = _step(sampler, x, at, to, SCHEDULE)
        errors.append(float((end - (to.alpha * x0 + to.sigma * eps)).abs().max()))
    return worst(errors)


def _ddpm(sampler: Sampler) -> float:
    """Against the posterior in DDPM's own letters, from the betas of neighbouring times."""
    schedule, errors = linear(), []
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 1, 1, 4)
    for t in TIMES:
        at, to = schedule(t), schedule(t - 1)
        beta, bar, before = schedule.betas[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        x0 = GAUSSIAN.denoise(x, at).x0
        mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x) / (1 - bar)  # Eq. 7
        std = ((1 - before) / (1 - bar) * beta).sqrt()
        ends = [_step(sampler, x, at, to, schedule, noise) for noise in (torch.zeros_like, torch.ones_like)]
        errors += [float((end - exact).abs().max()) for end, exact in zip(ends, (mean, mean + std), strict=True)]
    return worst(errors)


def _injected(family: Family, eta: float) -> float:
    at, to = SCHEDULE(700.0), SCHEDULE(433.3)
    x = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    std = []
    for sampler in (family(eta), family(1.0)):
        ends = [_step(sampler, x, at, to, SCHEDULE, noise) for noise in (torch.zeros_like, torch.ones_like)]
        std.append(ends[1] - ends[0])
    return float((std[0] - eta * std[1]).abs().max())


def _step(sampler: Sampler, x: Tensor, at: Level, to: Level, schedule: Schedule, noise: Noise | None = None) -> Tensor:
    return sampler.step(GAUSSIAN.denoise, x, at, to, sampler.init([at, to], schedule), noise)[0]


def _example(factory: Factory, rows: Sequence[int]) -> Tensor:
    return _run(factory(), GAUSSIAN.denoise, [*stretched(7), SCHEDULE(0.0)], rows, SCHEDULE)


def _run(sampler: Sampler, denoise: Denoise, levels: list[Level], rows: Sequence[int], schedule: Schedule) -> Tensor:
    noise = ImageNoise(0, rows)
    x = noise(torch.empty(len(rows), 1, 1, len(GAUSSIAN.mean), dtype=torch.float64))
    *_, end = trajectory(sampler, denoise, x, levels, noise, schedule)
    return end


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; infinite where one of the two is NaN."""
    return 0.0 if torch.equal(a, b) else float((a - b).abs().max().nan_to_num(math.inf))
