"""All proofs, solver by solver."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ddim import samplers
from ddim.samplers import Sampler
from ddim.verify import marginals, order, properties
from ddim.verify.exact import MIXTURE
from ddim.verify.verdict import Curve, Proof, Verdict, worst

Make = Callable[[], Sampler]

TOLERANCE = 0.2  # what a measured order may lack
VARIANTS: tuple[tuple[str, str, Any], ...] = (
    ("ddim", "eta", 0.5),
    ("heun", "churn", 10),
    ("unipc", "order", 1),
    ("unipc", "order", 2),
    ("unipc", "variant", "bh1"),
)
SAMPLES, SAMPLED_STEPS = 40_000, 160
SIGMAS = 4.5  # standard errors that chance may put between samples and the law


def contestants(only: Sequence[str] | None = None) -> dict[str, Make]:
    """Every solver that has a name, and some with options; or those named alone.

    Raises:
        UserError: an unknown name.
    """
    made: dict[str, Make] = {}
    for name in samplers.names() if only is None else only:
        samplers.get(name)  # refuses an unknown name
        made[name] = partial(samplers.get, name)
    if only is None:
        for name, option, value in VARIANTS:
            made[f"{name}, {option} = {value}"] = partial(samplers.get, name, **{option: value})
    return made


def judge(name: str, make: Make) -> Verdict:
    """The verdict on one solver.

    Args:
        name: under which it is reported.
        make: makes it anew for every proof, so that none leans on what another left behind.
    """
    sampler = make()
    curves = order.measure(make)
    proofs = [
        Proof(problem, _slowest(curves, problem), sampler.order - TOLERANCE, "least")
        for problem in dict.fromkeys(curve.problem for curve in curves)
    ]
    if sampler.stochastic:
        proofs.append(mixture_law(make))
    proofs += [
        check(make)
        for check in (
            properties.point_mass,
            properties.promised_calls,
            properties.repeats,
            properties.batches,
        )
    ]
    calls = properties.calls_a_step(sampler)
    return Verdict(name, sampler.order, sampler.stochastic, calls, tuple(proofs), tuple(curves))


def mixture_law(make: Make) -> Proof:
    """Mean and deviation of many samples of the mixture, in units of what chance and the step allow.

    Two ladders, one of twice the steps, tell the bias of the finer one: as much again is allowed on top of chance.
    The value is the larger of the two differences over what is allowed, so that it must not exceed 1.
    """
    coarse, fine = (
        marginals.sampled(make(), MIXTURE, order.stretched(S), order.SCHEDULE, SAMPLES)
        for S in (SAMPLED_STEPS // 2, SAMPLED_STEPS)
    )
    mean, std = MIXTURE.law(order.stretched(1)[-1])
    chance = SIGMAS * float(std) / math.sqrt(SAMPLES)
    values = []
    for found, rough, exact in zip(fine, coarse, (mean, std), strict=True):
        values.append(float((found - exact).abs()) / (chance + float((found - rough).abs())))
    return Proof("samples", worst(values), 1.0)


def _slowest(curves: list[Curve], problem: str) -> float:
    return -worst(-curve.order for curve in curves if curve.problem == problem)
