"""A teacher's trajectories: computed once, kept, and learned again and again."""

from collections.abc import Sequence
from contextlib import nullcontext
from math import prod

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.device import evaluating
from ddim.distill.losses import Loss, Taught, Times
from ddim.forward import start
from ddim.guidance import Interval
from ddim.level import Level, Noise
from ddim.noise import DISTILLATION, HELD_OUT, ImageNoise
from ddim.samplers import Sampler, trajectory
from ddim.timesteps import levels
from ddim.train.batches import image_indices
from ddim.train.objective import Measured
from ddim.train.recipe import Plan

HELD = 64  # noises on which a student is measured, at most
COUNT = 16384  # different trajectories; computing one takes longer than learning from it
MOST_BYTES = 2**30  # that they may fill


class Trajectories:
    """The loss of a student on the trajectories of its teacher, an objective of `ddim.train.fit`.

    Args:
        teacher: the teacher.
        solver, visited: its method, and the levels that this visits.
        guidance, interval: of the teacher.
        loss: what the student learns.
        own: the student's times.
        labels: (N,) classes of the training images; the trajectories have them in the order of the plan's epochs.
        plan: the batch size and the seed.
        count: number of different trajectories. They are kept in memory, and learned again in the same batches.
    """

    def __init__(
        self,
        teacher: Denoiser,
        solver: Sampler,
        visited: Sequence[Level],
        guidance: float,
        interval: Interval | None,
        loss: Loss,
        own: Times,
        labels: Tensor,
        plan: Plan,
        count: int = COUNT,
    ) -> None:
        self.teacher, self.solver, self.visited = teacher, solver, visited
        self.guidance, self.interval = guidance, interval
        self.loss, self.labels, self.plan = loss, labels, plan
        self.own = [levels(teacher.schedule, torch.tensor([*times, 0.0], dtype=torch.float64)) for times in own]
        self.calls = loss.evaluations(own)
        self.reached = {float(to.t) for levels in self.own for to in levels[1:]}
        kept = (1 + len(self.reached)) * 4 * prod(teacher.shape)  # bytes of a trajectory
        self.batches = max(1, min(count, MOST_BYTES // kept) // plan.batch_size)
        self.slow = self.batches  # updates that compute trajectories
        self._known: dict[tuple[int, range], Taught] = {}
        self._held: Taught | None = None

    def losses(self, model: Denoiser, step: int, positions: range) -> Tensor:
        """Return the loss of each trajectory, see `ddim.train.objective.Objective`."""
        batch = (step - 1) % self.batches
        if (batch, positions) not in self._known:
            first = batch * self.plan.batch_size
            noise = ImageNoise(self.plan.seed, (first + position for position in positions), DISTILLATION)
            labels = self.labels[image_indices(self.plan, len(self.labels), batch + 1, positions)]
            self._known[batch, positions] = self.taught(noise, labels)
        return self._losses(model.eval(), self._known[batch, positions])  # eval: the targets have no dropout

    @torch.no_grad()
    def measure(self, average: Denoiser, held_out: Images, calls: float) -> Measured:
        """Return the same loss from noise that training does not use, with the classes of held-out images."""
        each = self.calls
        if self._held is None:
            each += len(self.visited) - 1
            rows = torch.arange(int(max(1, min(HELD, calls / each))))
            noise = ImageNoise(self.plan.seed, rows.tolist(), HELD_OUT)
            self._held = self.taught(noise, held_out.labels[rows * len(held_out) // len(rows)])
        with evaluating(average.network):
            losses = self._losses(average, self._held)
        return Measured({"held_out": losses.mean().item()}, len(losses) * each)

    @torch.no_grad()
    def taught(self, noise: Noise, labels: Tensor) -> Taught:
        """Return the teacher's trajectories from some noise, for images of these classes; on the CPU."""
        teacher, count = self.teacher, len(labels)
        empty = torch.empty(count, *teacher.shape, device=teacher.device, dtype=teacher.image_dtype)
        xT = start(self.visited[0], noise(empty))
        given = None if teacher.classes is None else labels.to(teacher.device)
        # What serves the network has a precision of its own; the network itself has that of the training.
        own_precision = torch.autocast(teacher.device.type, enabled=False) if teacher.server else nullcontext()
        with evaluating(teacher.network), own_precision:
            denoise = teacher.denoise(given, self.guidance, guidance_interval=self.interval, served=count)
            steps = trajectory(self.solver, denoise, xT, self.visited, schedule=teacher.schedule)
            reached = {float(to.t): x for to, x in zip(self.visited[1:], steps, strict=True)}
        return Taught(xT.cpu(), None if given is None else labels, {t: reached[t].cpu() for t in self.reached})

    def _losses(self, student: Denoiser, taught: Taught) -> Tensor:
        device, dtype = student.device, student.image_dtype
        labels = None if taught.labels is None else taught.labels.to(device)
        states = {t: x.to(device, dtype) for t, x in taught.states.items()}
        return self.loss(student, Taught(taught.noise.to(device, dtype), labels, states), self.own)
