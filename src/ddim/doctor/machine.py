"""A finding that takes seconds: the speed of a run's updates on this machine now, against that of its training."""

import copy
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import torch

from ddim import environment, processors
from ddim.data.images import Images
from ddim.doctor.base import Diagnosis, Finding
from ddim.errors import UserError
from ddim.progress import hidden
from ddim.run_folder import RunFolder
from ddim.train import fit, recipe

SECONDS, UPDATES = 5.0, 12  # for the measurement, at most
SLOWER = 0.7  # of this machine's rate: a slower training lost time to something else
BUSY = 1.1  # of this machine's rate: the training was faster than the measurement, so that one is wrong
SUBJECT = "Training against what this machine gives"


def rate(run: RunFolder) -> Finding:
    """Make some updates of a copy of the network, and compare their speed with the run's.

    The images are those that the folder holds. The fastest update counts, because other programs only slow it down.
    """
    diagnosis = _diagnose(run)
    return Finding("rate", SUBJECT, diagnosis.verdict, diagnosis.evidence, diagnosis.advice)


def _diagnose(run: RunFolder) -> Diagnosis:
    recorded = run.metrics[-1].get("images_per_second") if run.metrics else None
    if recorded is None or run.data is None or "distilled" in run.config:
        return Diagnosis("not measured", "The folder does not tell the images per second of a training.")
    machine = run.environment
    here = {"processor": environment.processor(), "cores": processors.available_cores(), "device": "cpu"}
    if any(machine.get(name) != value for name, value in here.items()) or machine.get("processes", 1) != 1:
        return Diagnosis("not measured", "The run was trained on another machine, on a GPU or by several processes.")
    try:
        plan = recipe.of_run(run.folder).plan
        fastest = measure(run, plan)
    except UserError as error:
        return Diagnosis("not measured", str(error))
    share = recorded / fastest
    evidence = (
        f"The training took {recorded:,.0f} images/s, evaluation and samples included. An update of the same network "
        f"reaches {fastest:,.0f} images/s here now, so the training had {share:.0%} of that."
    )
    if share > BUSY:
        return Diagnosis("not measured", evidence, "The machine is busy now; run this again when it is idle.")
    if share >= SLOWER:
        return Diagnosis("fine", evidence)
    return Diagnosis("act", evidence, "Look for other programs on the machine, and for images on a slow disk.")


def measure(run: RunFolder, plan: recipe.Plan) -> float:
    """Return the images per second of the fastest update after the first. Raises `UserError` as `ddim.train.fit`."""
    assert run.data is not None
    classes = run.model.classes or 1
    labels = torch.arange(len(run.data)) % classes
    images = Images(run.data, labels, tuple(map(str, range(classes))), "some images of the run")
    short = replace(plan, steps=UPDATES, epochs=None, minutes=None, compile=False, cooldown=0.0)
    model, times = run.model.with_network(copy.deepcopy(run.model.network)), [time.perf_counter()]
    with hidden(), suppress(StopIteration):
        for _ in fit(model, images, short):
            times.append(time.perf_counter())
            if len(times) > 2 and times[-1] - times[0] > SECONDS:
                break
    return plan.batch_size / min(b - a for a, b in pairwise(times[1:]))
