"""Trajectory distillation: the student's steps lead to the teacher's states (SFD, arXiv 2409.19681)."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.device import evaluating
from ddim.guidance import Interval
from ddim.level import Level, Noise
from ddim.noise import DISTILLATION, HELD_OUT, ImageNoise
from ddim.predict import from_x0
from ddim.samplers import Sampler, trajectory
from ddim.timesteps import levels
from ddim.train.batches import image_indices
from ddim.train.objective import Measured
from ddim.train.recipe import Plan

APART = 0.05  # share of T between the first times of two numbers of calls
HELD = 64  # noises on which a student is measured, at most
COUNT = 16384  # different trajectories; computing one takes longer than learning from it
MOST_BYTES = 2**30  # that they may fill


class Taught(NamedTuple):
    """Some of the teacher's trajectories, on the CPU."""

    noise: Tensor  # x_T, (B, C, H, W)
    labels: Tensor | None  # (B,)
    states: dict[float, Tensor]  # t -> x_t, at the times that the student reaches


def own_times(T: int, calls: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Return the times of a student for each of its numbers of calls, the smallest first.

    S calls have the times c T (S - i) / S, i = 0 ... S - 1. The factor c is 1 for the smallest number of calls, and
    smaller by `APART` for each further one, at least a half: from the same noise, each number of calls needs another
    first step, and the time tells the network which.
    """
    factors = [max(0.5, 1 - APART * k) for k in range(len(calls))]
    return tuple(
        tuple(factor * T * (S - i) / S for i in range(S)) for factor, S in zip(factors, sorted(calls), strict=True)
    )


def teacher_times(T: int, own: Sequence[Sequence[float]], steps: int) -> list[float]:
    """Return the teacher's times without 0: T, the student's times, and equal steps of at most T / steps between."""
    stops = sorted({float(T), *(t for times in own for t in times)}, reverse=True)
    found: list[float] = []
    for t, s in pairwise([*stops, 0.0]):
        parts = max(1, math.ceil((t - s) * steps / T - 1e-9))
        found += [t + (s - t) * i / parts for i in range(parts)]
    return found


class Trajectories:
    """The distance of a student's DDIM steps from the teacher's states.

    From noise x_T, the teacher's solver gives the states y_s at all times s of the student. For each number of calls
    the student steps from t to s by DDIM, without clipping, and loses

        sum_s |x_s(theta) - y_s| / alpha_s,   a mean over pixels (SFD, Eq. 10, in L1).

    The gradient of each term is that of its own step. The next step starts from the student's own state, clipped as in
    sampling.

    Args:
        teacher: the teacher.
        own: the student's times, see `own_times`.
        labels: (N,) classes of the training images; the trajectories have them in the order of the plan's epochs.
        plan: the batch size and the seed.
        solver, steps: the teacher's solver, and the number of its steps in [0, T].
        guidance, interval: of the teacher.
        count: number of different trajectories. They are kept in memory, and learned again in the same batches.
    """

    def __init__(
        self,
        teacher: Denoiser,
        own: Sequence[Sequence[float]],
        labels: Tensor,
        plan: Plan,
        solver: Sampler,
        steps: int,
        guidance: float = 1.0,
        interval: Interval | None = None,
        count: int = COUNT,
    ) -> None:
        self.teacher, self.labels, self.plan, self.solver = teacher, labels, plan, solver
        self.guidance, self.interval = guidance, interval
        schedule = teacher.schedule
        self.own = [levels(schedule, torch.tensor([*times, 0.0], dtype=torch.float64)) for times in own]
        visited = teacher_times(schedule.T, own, steps)
        self.visited = levels(schedule, torch.tensor([*visited, 0.0], dtype=torch.float64))
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
        each = sum(len(levels) - 1 for levels in self.own)
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
        """Return the teacher's trajectories from some noise, for images of these classes."""
        teacher, count = self.teacher, len(labels)
        xT = noise(torch.empty(count, *teacher.shape, device=teacher.device, dtype=teacher.image_dtype))
        given = None if teacher.classes is None else labels.to(teacher.device)
        # What serves the network has a precision of its own; the network itself has that of the training.
        own_precision = torch.autocast(teacher.device.type, enabled=False) if teacher.server else nullcontext()
        with evaluating(teacher.network), own_precision:
            denoise = teacher.denoise(given, self.guidance, guidance_interval=self.interval, served=count)
            steps = trajectory(self.solver, denoise, xT, self.visited, schedule=teacher.schedule)
            reached = {float(to.t): x for to, x in zip(self.visited[1:], steps, strict=True)}
        return Taught(xT.cpu(), None if given is None else labels, {t: reached[t].cpu() for t in self.reached})

    def _losses(self, student: Denoiser, taught: Taught) -> Tensor:
        noise = taught.noise.to(student.device, student.image_dtype)
        labels = None if taught.labels is None else taught.labels.to(noise.device)
        total = noise.new_zeros(len(noise))
        for own in self.own:
            x = noise
            for at, to in pairwise(own):
                target = taught.states[float(to.t)].to(x)
                loss, x = self._step(student, x, at.like(x), to.like(x), labels, target)
                total = total + loss
        return total

    def _step(
        self, student: Denoiser, x: Tensor, at: Level, to: Level, labels: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a step for each image, and the state that it leads to, without gradients."""
        x0, eps = student(x, at, labels)
        loss = (to.alpha * x0 + to.sigma * eps - target).abs().mean(dim=(1, 2, 3)) / to.alpha
        x0, eps = from_x0(x, at, x0.detach().clamp(-1, 1))
        return loss, to.alpha * x0 + to.sigma * eps  # DDIM, Eq. 12 with std = 0
