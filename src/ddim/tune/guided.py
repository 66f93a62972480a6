"""Guided candidates: solvers with fewer steps, whose guidance brings the evaluations of the network back to the number.

Classifier-free guidance (arXiv 2207.12598, Eq. 6) evaluates the network twice at each call in its interval (arXiv
2404.07724, Eq. 6). So 20 evaluations are 10 steps that are all guided, or more steps of which some are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ddim.guidance import Interval
from ddim.presets import Method
from ddim.schedule import Schedule
from ddim.timesteps import timesteps
from ddim.tune.candidates import one_call_a_step

WEIGHTS = (1.1, 1.3, 1.5)
FIRST = 1.3  # of these, for the choice of a solver and an interval
INTERVALS: tuple[Interval | None, ...] = (None, (0.3, 5.0))
OTHERS = 1  # solvers beside DDIM
KEPT = 2  # solvers with an interval, for which all weights are tried


def guided(schedule: Schedule, calls: int, solvers: Sequence[Method]) -> Iterator[Method]:
    """Yield solvers with guidance `FIRST` in each of `INTERVALS`, with the steps that make exactly so many evaluations.

    Args:
        schedule: the model's.
        calls: number of evaluations of the network for an image.
        solvers: from `candidates.plain`, the nearest to the teacher first. Of those with one call a step, DDIM on every
            spacing and the first `OTHERS` of the others are taken.
    """
    single = [method for method in solvers if one_call_a_step(method, schedule)]
    ddim = [method for method in single if method.sampler == "ddim"]
    others = [method for method in single if method.sampler != "ddim"]
    for solver in (*ddim, *others[:OTHERS]):
        _, spacing = solver.found.split(", ")
        for interval in INTERVALS:
            for steps in range(calls - 1, (calls - 1) // 2, -1):
                times = tuple(float(t) for t in timesteps(schedule, steps, spacing)[:-1])
                method = replace(solver, times=times, guidance=FIRST, guidance_interval=interval)
                if method.evaluations(schedule) == calls:
                    yield method
                    break


def best_of_each_weight(methods: Sequence[Method], distance: Callable[[Method], float]) -> list[Method]:
    """Return the method of least distance for each of `WEIGHTS`, among the `KEPT` nearest of `guided`."""
    kept = sorted(methods, key=distance)[:KEPT]
    if not kept:
        return []
    return [min((replace(method, guidance=weight) for method in kept), key=distance) for weight in WEIGHTS]
