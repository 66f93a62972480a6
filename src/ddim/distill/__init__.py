"""Distillation: train a student to do in a few network calls what a model does in many.

The student takes DDIM steps between a few times of its own. It learns from the teacher's trajectories, by a loss in
`ddim.distill.losses`.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from ddim.contract import check_conditions, check_data
from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.distill.losses import Loss, losses
from ddim.distill.trajectories import COUNT, Trajectories
from ddim.errors import UserError, number
from ddim.guidance import Interval
from ddim.level import Level
from ddim.presets import digest, guidance_of
from ddim.samplers import Sampler
from ddim.sampling import Sampling
from ddim.train.distributed import Distributed
from ddim.train.guards import Breakdown
from ddim.train.loop import Progress, fit
from ddim.train.recipe import Plan
from ddim.train.state import State

__all__ = ["MOST_CALLS", "Distillation", "Trajectories", "distill", "losses"]

MOST_CALLS = 32  # of a student


class Teaching(NamedTuple):
    """How the teacher is sampled."""

    solver: Sampler
    levels: list[Level]
    guidance: float
    interval: Interval | None
    text: str

    @property
    def times(self) -> list[float]:
        """The times that it visits, without the final 0."""
        return [float(at.t) for at in self.levels[:-1]]


@dataclass(frozen=True, eq=False)
class Distillation:
    """A student, its teacher, and what it learns; a task of `ddim.train.run.train`.

    Args:
        teacher: the model to learn from, with its own weights and what serves its network.
        calls: the numbers of network calls of the student, each from 1 to 32. One student learns them all.
        loss: what it learns of the teacher's trajectories, a name in `ddim.distill.losses`.
        sampler, steps: how the teacher is sampled, see `Denoiser.sample`; None is its own way, with its preset if it
            has one. Its sampler must be deterministic, with one network call a step.
        trajectories: number of different trajectories of the teacher, at most as many as 1 GiB holds. Later updates
            learn from the same ones again.
        guidance, guidance_interval: of the teacher, see `Denoiser.sample`. The student does the same without guidance.
        start: a model whose weights the student starts from, with the teacher's shape, classes, schedule and T; it may
            have another network. None is the teacher.

    Raises:
        UserError: an unknown name, a number out of range, a stochastic teacher, one of fewer steps than the student or
            with vectors as conditions, guidance of a model without classes, or a start that does not fit the teacher.
    """

    command: ClassVar[str] = "distill"

    teacher: Denoiser
    calls: Sequence[int] = (4,)
    loss: str = "consistency"
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_interval: Interval | None = None
    trajectories: int = COUNT
    start: Denoiser | None = None
    about: dict[str, Any] = field(default_factory=dict)  # further entries of what `describe` returns

    def __post_init__(self) -> None:
        most = min(MOST_CALLS, self.teacher.schedule.N)
        allowed = f"a whole number from 1 to {most}"
        calls = [number("Each number of network calls of a student", one, int, 1, most, allowed) for one in self.calls]
        if not calls:
            raise UserError("Distillation needs a number of network calls, e.g. calls=4; got none.")
        object.__setattr__(self, "calls", tuple(sorted(set(calls))))
        if self.teacher.conditions is not None:
            raise UserError("The teacher is conditioned on vectors, and a student learns only classes; do without one.")
        count = number("The number of trajectories", self.trajectories, int, 1)
        object.__setattr__(self, "trajectories", count)
        if self.start is not None:
            for name in ("shape", "classes"):
                own, of_teacher = getattr(self.start, name), getattr(self.teacher, name)
                if own != of_teacher:
                    raise UserError(f"The student starts from a model with {name} {own}, its teacher has {of_teacher}.")
            if self.start.schedule.config != self.teacher.schedule.config:
                raise UserError("The student starts from a model with another noise schedule than its teacher's.")
        _ = self.sampling  # refuses a loss or a teacher that does not fit

    @cached_property
    def teaching(self) -> Teaching:
        """How the teacher is sampled."""
        model, schedule = self.teacher, self.teacher.schedule
        preset = model.preset(self.steps, self.sampler)
        solver, visited = (
            model.sampling.resolve(schedule, self.steps, self.sampler) if preset is None else preset.resolve(schedule)
        )
        own = self.guidance is None and self.guidance_interval is None
        text = model.describe_sampling(own, steps=self.steps, sampler=self.sampler)
        if solver.stochastic or solver.calls(visited) != len(visited) - 1:
            raise UserError(
                f"The teacher's sampler must be deterministic, with one network call a step, e.g. 'ddim'; got {text}."
            )
        some = None if model.classes is None else [0]
        weight, interval = guidance_of(preset, self.guidance, self.guidance_interval)
        _, weight, checked = check_conditions(model, some, None, weight, interval)
        return Teaching(solver, visited, weight, None if interval is None else checked, text)

    @cached_property
    def sampling(self) -> Sampling:
        """How the student is sampled."""
        loss = self._loss()
        times, clip = loss.times(self.teaching.times, self.calls), self.teacher.sampling.clip
        return Sampling(max(self.calls), "ddim", loss.eta, "trailing", times, clip)

    def _loss(self) -> Loss:
        return losses[self.loss]()

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
        teaching = self.teaching
        return {
            "distilled": {
                "calls": list(self.calls),
                "loss": self.loss,
                "sampler": self.sampler,
                "steps": self.steps,
                "guidance": teaching.guidance,
                "guidance_interval": teaching.interval and [min(end, 1e9) for end in teaching.interval],
                "trajectories": self.trajectories,
                "teacher_sampling": teaching.text,
                "teacher_times": teaching.times,
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
        teaching = self.teaching
        return Trajectories(
            self.teacher,
            teaching.solver,
            teaching.levels,
            teaching.guidance,
            teaching.interval,
            self._loss(),
            self.sampling.times,
            images.labels,
            plan,
            self.trajectories,
        )


def distill(
    model: Denoiser,
    images: Images,
    plan: Plan,
    calls: int | Sequence[int] = 4,
    *,
    distributed: Distributed | None = None,
    state: State | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    recover: Callable[[Breakdown], bool] = lambda breakdown: False,
    **options: Any,
) -> Iterator[Progress]:
    """Train a student of a model, and yield the progress after each update; the last `progress.average` is the student.

    It is a generator like `ddim.train.fit`, and the student is sampled like any model: `student.sample(16)` takes the
    largest of its numbers of calls, `student.sample(16, steps=1)` another one.

    Args:
        model: the teacher, which is not changed.
        images: images whose classes the student draws; of the images themselves nothing is learned.
        plan: how to train. Its `weighting`, `times`, `mirror` and `label_dropout` have no effect.
        calls: the student's number of network calls, or several, which one student then learns.
        distributed, state, interrupted, recover: see `fit`.
        options: loss, sampler, steps, guidance, guidance_interval, trajectories, start: see `Distillation`, which has
            the same errors.
    """
    task = Distillation(model, (calls,) if isinstance(calls, int) else calls, **options)
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
