"""Experiments: each is computed once for the weights of a run, kept in its folder and shown in its report.

Each module of this package holds one experiment. Another one may be registered from any module, see `base`.
"""

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.experiments import results
from ddim.experiments.base import (
    REPORT,
    Cell,
    Claim,
    Drawing,
    Experiment,
    Extra,
    Result,
    Samples,
    Setup,
    Table,
    experiments,
    register,
)
from ddim.experiments.cost import forward_seconds
from ddim.model_io import fingerprint

__all__ = [
    "Cell",
    "Claim",
    "Drawing",
    "Experiment",
    "Extra",
    "Result",
    "Samples",
    "Setup",
    "Table",
    "experiments",
    "register",
    "run",
    "runnable",
    "seconds_whole",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def runnable(command: str | None = None, model: Denoiser | None = None) -> list[str]:
    """Return the names of the experiments that `run` can compute, in the order in which they run.

    With a command, e.g. "ddim report RUN", only those that it makes, and what they need; with a model, only those
    that apply to it.
    """
    made = (name for name, one in experiments.items() if one.share and command in (None, one.command))
    return _in_order(name for name in made if model is None or not experiments[name].unsuitable(model))


def _in_order(names: Iterable[str]) -> list[str]:
    """Return experiments in the order in which they run, each after those that it needs."""
    ordered: list[str] = []
    for name in sorted(names, key=lambda name: (experiments[name].runs_last, experiments[name].place)):
        needed = _in_order(experiments[name].needs)
        ordered += [one for one in (*needed, name) if one not in ordered]
    return ordered


def run(
    setup: Setup,
    *,
    minutes: float | None = None,
    redo: bool = False,
    whole: bool = False,
    names: Sequence[str] | None = None,
) -> Iterator[str]:
    """Run experiments, and keep their results and samples in the folder of the run.

    An experiment whose result is there for these weights is not run again. Each one ends by writing
    `results/NAME.json` with the fingerprint of the weights, so an interrupt loses one experiment at most. One that
    cannot be computed is left out: a `Notice` and the file say why, and the next one runs.

    Args:
        setup: the run's folder, its model and, for experiments that need them, its images.
        minutes: approximate limit; what does not fit takes fewer steps and images, and its result says so.
        redo: run all of them again.
        whole: run again those that a limit has cut.
        names: which, with the experiments that they need; None is those of `ddim report`.

    Yields:
        The name of each experiment when its result is in the folder.

    Raises:
        UserError: unknown name, minutes not above 0, missing images, a folder without a model, a name of an
            experiment that does not apply to the model, or no experiment can be computed.
    """
    if minutes is not None and not minutes > 0:
        raise UserError(f"minutes must be above 0; got {minutes}.")
    chosen = _in_order(runnable(REPORT, setup.model) if names is None else names)
    weights = fingerprint(setup.folder)
    todo: list[str] = []
    for name in chosen:
        if not experiments[name].share:
            raise UserError(f"The experiment {name!r} is made by `{experiments[name].command}`.")
        if reason := experiments[name].unsuitable(setup.model):
            raise UserError(f"The experiment {name!r} does not apply to this model: {reason}")
        if redo or set(experiments[name].needs) & set(todo) or not _done(setup, name, weights, whole):
            todo.append(name)
    for name in todo:
        if experiments[name].needs_images and (setup.train is None or setup.test is None):
            raise UserError(f"The experiment {name!r} needs the images that the model was trained on; give them too.")
    end = time.monotonic() + 60 * (minutes or 0)
    failed: dict[str, UserError] = {}
    for name in chosen:
        if name in todo:
            experiment, rest = experiments[name], sum(experiments[one].share for one in todo[todo.index(name) :])
            left = max(0.0, end - time.monotonic())
            results.forget(setup.folder, name)
            try:
                if missing := failed.keys() & experiment.needs:
                    raise UserError(f"it needs the experiment {min(missing)}.")
                result, samples = experiment.run(setup, None if minutes is None else left * experiment.share / rest)
            except UserError as error:
                failed[name] = error
                results.leave_out(setup.folder, experiment, weights, str(error))
                warnings.warn(f"The experiment {name} is left out: {error}", Notice, stacklevel=2)
                continue
            results.keep(setup.folder, experiment, weights, result, samples)
        yield name
    if failed and len(failed) == len(chosen):
        raise next(iter(failed.values()))


def seconds_whole(model: Denoiser) -> float:
    """Return the seconds that all experiments take on this machine if nothing is cut, by a timed network call."""
    call = forward_seconds(model, 64, repeats=3) / 64
    return sum(experiments[name].calls(model) for name in runnable(model=model)) * call


def _done(setup: Setup, name: str, weights: str, whole: bool) -> bool:
    experiment = experiments[name]
    stored = results.read(setup.folder, experiment)
    if stored.result is None or stored.facts.get("weights") != weights or (whole and stored.result.cut):
        return False
    return results.load_samples(setup.folder, experiment, setup.model.shape) is not None


def __getattr__(name: str) -> Any:
    if name == "PIECES":
        warnings.warn("ddim.experiments.PIECES is now experiments.", DeprecationWarning, stacklevel=2)
        return experiments
    if name == "LOOK":
        warnings.warn('ddim.experiments.LOOK is now runnable("ddim report RUN").', DeprecationWarning, stacklevel=2)
        return tuple(runnable(REPORT))
    raise AttributeError(f"module 'ddim.experiments' has no attribute {name!r}")
