"""What DDIM's paper says of its own family, held to rounding."""

from collections.abc import Callable, Iterator
from itertools import product

import torch

from ddim.samplers import DDIM, Sampler
from ddim.schedule import linear
from ddim.verify.exact import GAUSSIAN, POINT
from ddim.verify.marginals import Law, error, law
from ddim.verify.order import SCHEDULE, stretched
from ddim.verify.properties import ROUNDING
from ddim.verify.verdict import Proof, worst

Family = Callable[[float], Sampler]
"""eta -> the sampler."""

TIMES = (2, 10, 300, 999, 1000)


def prove(family: Family = DDIM) -> Iterator[Proof]:
    """One proof after another; the values are the largest differences.

    Args:
        family: makes the sampler that has a given eta.
    """
    yield Proof("eta = 0: one step is alpha_s x0 + sigma_s eps (Eq. 12)", _one_step(family(0.0)), ROUNDING)
    yield Proof(
        "eta = 1: the mean and variance of DDPM's posterior (DDPM, Eqs. 6 and 7)", _ddpm(family(1.0)), ROUNDING
    )
    words = "every eta: q(x_s | x_0) is kept (DDIM, Lemma 1)"
    yield Proof(words, worst(_kept(family(eta)) for eta in (0.0, 0.2, 0.5, 0.8, 1.0)), ROUNDING)
    words = "every eta: the injected deviation is eta times DDPM's (Eq. 16)"
    yield Proof(words, worst(_injected(family, eta) for eta in (0.2, 0.5, 0.8)), ROUNDING)


def _one_step(sampler: Sampler) -> float:
    """On a real network's kind of output: x0 and eps that change with x."""
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 1, 1, 4)
    found = []
    for at, to in product([SCHEDULE(1000.0), SCHEDULE(333.3)], [SCHEDULE(300.5), SCHEDULE(0.0)]):
        x0, eps = GAUSSIAN.denoise(x, at)
        end, _ = sampler.step(GAUSSIAN.denoise, x, at, to, sampler.init([at, to], SCHEDULE), None)
        found.append(float((end - (to.alpha * x0 + to.sigma * eps)).abs().max()))
    return worst(found)


def _ddpm(sampler: Sampler) -> float:
    """Each written in the other paper's letters: the posterior from the betas of neighbouring times."""
    schedule, found = linear(), []
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 1, 1, 4)
    for t in TIMES:
        at, to = schedule(t), schedule(t - 1)
        beta, bar, before = schedule.betas[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        x0 = GAUSSIAN.denoise(x, at).x0
        mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x) / (1 - bar)  # Eq. 7
        std = ((1 - before) / (1 - bar) * beta).sqrt()
        ends = [
            sampler.step(GAUSSIAN.denoise, x, at, to, sampler.init([at, to], schedule), noise)[0]
            for noise in (torch.zeros_like, torch.ones_like)
        ]
        found += [float((end - want).abs().max()) for end, want in zip(ends, (mean, mean + std), strict=True)]
    return worst(found)


def _kept(sampler: Sampler) -> float:
    levels = stretched(5)
    return worst(
        error(law(sampler, POINT, walk, SCHEDULE), Law(*POINT.law(walk[-1]))) for walk in (levels, levels[:2])
    )


def _injected(family: Family, eta: float) -> float:
    at, to = SCHEDULE(700.0), SCHEDULE(433.3)
    x = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    std = []
    for sampler in (family(eta), family(1.0)):
        state = sampler.init([at, to], SCHEDULE)
        ends = [sampler.step(GAUSSIAN.denoise, x, at, to, state, z)[0] for z in (torch.zeros_like, torch.ones_like)]
        std.append(ends[1] - ends[0])
    return float((std[0] - eta * std[1]).abs().max())
