"""Distillation: train a student to do in a few network calls what a model does in many.

The student takes DDIM steps between a few times of its own. It learns the states of the teacher's trajectory at these
times (SFD, arXiv 2409.19681).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ddim import samplers
from ddim.contract import check_conditions, check_data
from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.distill.trajectories import COUNT, Trajectories, own_times
from ddim.errors import UserError, number
from ddim.guidance import Interval
from ddim.presets import digest
from ddim.sampling import Sampling
from ddim.train.distributed import Distributed
from ddim.train.guards import Breakdown
from ddim.train.loop import Progress, fit
from ddim.train.recipe import Plan
from ddim.train.state import State

__all__ = ["MOST_CALLS", "Distillation", "Trajectories", "distill", "own_times"]

MOST_CALLS = 32  # of a student
STEPS = 16  # of the teacher over all times
MOST_STEPS = 1000


@dataclass(frozen=True, eq=False)
class Distillation:
    """A student, its teacher, and what it learns; a task of `ddim.train.run.train`.

    Args:
        teacher: the model to learn from, with its own weights and what serves its network.
        calls: the numbers of network calls of the student, each from 1 to 32. One student learns them all.
        sampler, steps: the teacher's solver, deterministic, with one network call a step; its steps are at most
            T / `steps` long.
        trajectories: number of different trajectories of the teacher, at most as many as 1 GiB holds. Later updates
            learn from the same ones again.
        guidance, guidance_interval: of the teacher, see `Denoiser.sample`. The student does the same without guidance.
        start: a model whose weights the student starts from, with the teacher's shape, classes, schedule and T; it may
            have another network. None is the teacher.

    Raises:
        UserError: a number out of range, a stochastic teacher, guidance of a model without classes, or a start that
            does not fit the teacher.
    """

    command: ClassVar[str] = "distill"

    teacher: Denoiser
    calls: Sequence[int] = (4,)
    sampler: str = "ddim"
    steps: int = STEPS
    guidance: float = 1.0
    guidance_interval: Interval | None = None
    trajectories: int = COUNT
    start: Denoiser | None = None
    about: dict[str, Any] = field(default_factory=dict)  # further entries of what `describe` returns

    def __post_init__(self) -> None:
        T = self.teacher.schedule.T
        most = min(MOST_CALLS, T)
        allowed = f"a whole number from 1 to {most}"
        calls = [number("Each number of network calls of a student", one, int, 1, most, allowed) for one in self.calls]
        if not calls:
            raise UserError("Distillation needs a number of network calls, e.g. calls=4; got none.")
        object.__setattr__(self, "calls", tuple(sorted(set(calls))))
        steps = number("The teacher's number of steps", self.steps, int, 1, min(MOST_STEPS, T))
        object.__setattr__(self, "steps", steps)
        count = number("The number of trajectories", self.trajectories, int, 1)
        object.__setattr__(self, "trajectories", count)
        solver = samplers.get(self.sampler)
        if solver.stochastic:
            raise UserError(f"The teacher's sampler must be deterministic, e.g. 'ddim'; got {self.sampler!r}.")
        levels = self.sampling.resolve(self.teacher.schedule)[1]
        if solver.calls(levels) != len(levels) - 1:
            raise UserError(
                f"The teacher's sampler must make one network call a step, e.g. 'ddim'; got {self.sampler!r}."
            )
        some = None if self.teacher.classes is None else [0]
        _, weight, interval = check_conditions(self.teacher, some, None, self.guidance, self.guidance_interval)
        object.__setattr__(self, "guidance", weight)
        object.__setattr__(self, "guidance_interval", None if self.guidance_interval is None else interval)
        if self.start is not None:
            for name in ("shape", "classes"):
                own, of_teacher = getattr(self.start, name), getattr(self.teacher, name)
                if own != of_teacher:
                    raise UserError(f"The student starts from a model with {name} {own}, its teacher has {of_teacher}.")
            if self.start.schedule.config != self.teacher.schedule.config:
                raise UserError("The student starts from a model with another noise schedule than its teacher's.")

    @property
    def sampling(self) -> Sampling:
        """How the student is sampled."""
        return Sampling(max(self.calls), "ddim", None, "trailing", own_times(self.teacher.schedule.T, self.calls))

    @property
    def predicts(self) -> str:
        """What the student predicts: v in place of eps (arXiv 2202.00512, section 4), else what `start` does.

        Near T, an error of eps is one of x0 that is sigma / alpha times as large, so that a first step by eps cannot be
        learned. Where there is little noise, eps and v are the same.
        """
        predicts = (self.start or self.teacher).predicts
        return "v" if predicts == "eps" else predicts

    def describe(self) -> dict[str, Any]:
        """Return the entry "distilled" of the student's `config.json`."""
        interval = None if self.guidance_interval is None else [min(end, 1e9) for end in self.guidance_interval]
        return {
            "distilled": {
                "calls": list(self.calls),
                "sampler": self.sampler,
                "steps": self.steps,
                "guidance": self.guidance,
                "guidance_interval": interval,
                "trajectories": self.trajectories,
                "teacher_weights": digest(self.teacher.network),
                **self.about,
            }
        }

    def student(self) -> Denoiser:
        """Return a new student, with the weights of `start`."""
        source = self.start or self.teacher
        network = copy.deepcopy(source.network)
        if not any(parameter.requires_grad for parameter in network.parameters()):  # those of `Progress.average`
            network.requires_grad_(True)
        student = Denoiser(
            network,
            source.schedule,
            self.predicts,
            source.shape,
            source.classes,
            indexed=source.indexed,
            sampling=self.sampling,
        )
        student.null_class = False
        return student

    def objective(self, images: Images, plan: Plan) -> Trajectories:
        """Return what the student minimises."""
        return Trajectories(
            self.teacher,
            self.sampling.times,
            images.labels,
            plan,
            samplers.get(self.sampler),
            self.steps,
            self.guidance,
            self.guidance_interval,
            self.trajectories,
        )


def distill(
    model: Denoiser,
    images: Images,
    plan: Plan,
    calls: int | Sequence[int] = 4,
    *,
    sampler: str = "ddim",
    steps: int = STEPS,
    guidance: float = 1.0,
    guidance_interval: Interval | None = None,
    trajectories: int = COUNT,
    start: Denoiser | None = None,
    distributed: Distributed | None = None,
    state: State | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    recover: Callable[[Breakdown], bool] = lambda breakdown: False,
) -> Iterator[Progress]:
    """Train a student of a model, and yield the progress after each update; the last `progress.average` is the student.

    It is a generator like `ddim.train.fit`, and the student is sampled like any model: `student.sample(16)` takes the
    largest of its numbers of calls, `student.sample(16, steps=1)` another one.

    Args:
        model: the teacher, which is not changed.
        images: images whose classes the student draws; of the images themselves nothing is learned.
        plan: how to train. Its `weighting`, `times`, `mirror` and `label_dropout` have no effect.
        calls: the student's number of network calls, or several, which one student then learns.
        sampler, steps, guidance, guidance_interval, trajectories, start: see `Distillation`, which has the same errors.
        distributed, state, interrupted, recover: see `fit`.
    """
    task = Distillation(
        model,
        (calls,) if isinstance(calls, int) else calls,
        sampler,
        steps,
        guidance,
        guidance_interval,
        trajectories,
        start,
    )
    check_data(images, model.shape, model.classes)
    student = task.student().to(model.device)
    return fit(
        student,
        images,
        plan,
        distributed=distributed,
        state=state,
        interrupted=interrupted,
        recover=recover,
        objective=task.objective(images, plan),
    )
