"""All proofs, solver by solver."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from ddim import samplers
from ddim.samplers import Sampler
from ddim.verify import checks, marginals, orders
from ddim.verify.exact import MIXTURE
from ddim.verify.verdict import Curve, Proof, Verdict, worst

Factory = Callable[[], Sampler]

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


def judge(name: str, factory: Factory) -> Verdict:
    """Return the verdict on one solver.

    Args:
        name: the name in the report.
        factory: returns a new solver for every proof, so that no proof depends on the state that another left.
    """
    sampler = factory()
    curves = orders.measure(factory)
    proofs = [
        Proof(problem, _lowest_order(curves, problem), sampler.order - TOLERANCE, "least")
        for problem in dict.fromkeys(curve.problem for curve in curves)
    ]
    if sampler.stochastic:
        proofs.append(mixture_samples(factory))
    proofs += [
        check(factory)
        for check in (checks.point_mass, checks.promised_calls, checks.repeatable, checks.independent_of_batch)
    ]
    calls = checks.calls_per_step(sampler)
    return Verdict(name, sampler.order, sampler.stochastic, calls, tuple(proofs), tuple(curves))


def mixture_samples(factory: Factory) -> Proof:
    """Check the mean and the standard deviation of many samples of the mixture.

    The difference between S and S / 2 steps estimates the bias at S steps, which is allowed on top of chance. The
    value is the larger of the two errors over the allowed error, so it must not exceed 1.
    """
    coarse, fine = (
        marginals.sampled(factory(), MIXTURE, orders.stretched(S), orders.SCHEDULE, SAMPLES)
        for S in (SAMPLED_STEPS // 2, SAMPLED_STEPS)
    )
    mean, std = MIXTURE.law(orders.stretched(1)[-1])
    chance = SIGMAS * float(std) / math.sqrt(SAMPLES)
    values = []
    for at_fine, at_coarse, exact in zip(fine, coarse, (mean, std), strict=True):
        values.append(float((at_fine - exact).abs()) / (chance + float((at_fine - at_coarse).abs())))
    return Proof("samples", worst(values), 1.0)


def _lowest_order(curves: list[Curve], problem: str) -> float:
    return -worst(-curve.order for curve in curves if curve.problem == problem)
