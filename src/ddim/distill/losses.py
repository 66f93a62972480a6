"""What a student learns from a teacher's trajectories: where they end (consistency), or where each step leads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.level import Level
from ddim.predict import from_x0
from ddim.registry import Registry
from ddim.text import counted

Times = tuple[tuple[float, ...], ...]


def every(visited: Sequence[float], calls: Sequence[int]) -> Times:
    """Return every N / S-th of N times, for each number of calls S. Raises `UserError` for more calls than times."""
    N = len(visited)
    if max(calls) > N:
        raise UserError(
            f"The teacher makes {counted(N, 'step')}, and a student cannot learn {max(calls)} from them; ask for a "
            "teacher of more steps."
        )
    return tuple(tuple(visited[i * N // S] for i in range(S)) for S in calls)


class Taught(NamedTuple):
    """Some of a teacher's trajectories."""

    noise: Tensor  # x_T, (B, C, H, W)
    labels: Tensor | None  # (B,)
    states: dict[float, Tensor]  # t -> x_t, at 0 and at the times that the student reaches


class Loss(ABC):
    """The loss of a student and how it is sampled. To add one, register a class.

    Attributes:
        eta: of the student's DDIM steps.
    """

    eta: float | str

    @abstractmethod
    def times(self, visited: Sequence[float], calls: Sequence[int]) -> Times:
        """Return the student's times for each number of calls, the smallest first, each without the final 0.

        Args:
            visited: the times that the teacher's method visits, without the final 0.
            calls: ascending numbers of calls.
        """

    @abstractmethod
    def __call__(self, student: Denoiser, taught: Taught, own: Sequence[Sequence[Level]]) -> Tensor:
        """Return the loss of each trajectory, (B,), differentiable; `own` are the levels at `times`, and at 0."""

    @abstractmethod
    def evaluations(self, own: Times) -> int:
        """Return the number of network calls of the loss for a trajectory."""


losses: Registry[type[Loss]] = Registry("distillation loss")
register = losses.register


@register("consistency")
class Consistency(Loss):
    """From the states of a trajectory, the student predicts its end (CMT, arXiv 2509.24526).

        sum_t |x0_theta(y_t, t) - y_0|,   a mean over pixels, where y_t is the teacher's state at the student's time t.

    One call maps noise to an image. With more calls, the student noises this image anew, with eta = "max" of
    `ddim.samplers.DDIM`, and predicts a better one from it. Its times are equally many of the teacher's steps apart;
    those of different numbers of calls coincide where they can.
    """

    eta = "max"

    def times(self, visited: Sequence[float], calls: Sequence[int]) -> Times:
        """Return every N / S-th of the teacher's N times for S calls, see `Loss`."""
        return every(visited, calls)

    def __call__(self, student: Denoiser, taught: Taught, own: Sequence[Sequence[Level]]) -> Tensor:
        """Return the loss of each trajectory, see `Loss`."""
        end = taught.states[0.0].clamp(-1, 1)
        total = end.new_zeros(len(end))
        for t, at in {float(at.t): at for levels in own for at in levels[:-1]}.items():
            x0, _ = student(taught.states.get(t, taught.noise), at.like(end), taught.labels)
            total = total + (x0 - end).abs().mean(dim=(1, 2, 3))
        return total

    def evaluations(self, own: Times) -> int:
        """Return the number of different times."""
        return len({t for times in own for t in times})


@register("trajectory")
class Trajectory(Loss):
    """The student's DDIM steps lead to the teacher's states (SFD, arXiv 2409.19681, Eq. 10, in L1).

    For each number of calls the student steps from t to s by DDIM with eta = 0, without clipping, and loses

        sum_s |x_s(theta) - y_s| / alpha_s,   a mean over pixels.

    The gradient of each term is that of its own step. The next step starts from the student's own state, clipped as in
    sampling. From the same noise each number of calls needs another first step, and the time tells the network which:
    the first times lie between the teacher's and halfway to the second one of any number of calls. All others are the
    teacher's, equally many of its steps apart.
    """

    eta = 0.0

    def times(self, visited: Sequence[float], calls: Sequence[int]) -> Times:
        """Return every N / S-th of the teacher's N times for S calls, but for the first time, see `Loss`."""
        own = every(visited, calls)
        half = (visited[0] - max((*times, 0.0)[1] for times in own)) / 2
        return tuple((visited[0] - half * k / len(own), *times[1:]) for k, times in enumerate(own))

    def __call__(self, student: Denoiser, taught: Taught, own: Sequence[Sequence[Level]]) -> Tensor:
        """Return the loss of each trajectory, see `Loss`."""
        total = taught.noise.new_zeros(len(taught.noise))
        for levels in own:
            x = taught.noise
            for at, to in pairwise(levels):
                target = taught.states[float(to.t)]
                loss, x = self._step(student, x, at.like(x), to.like(x), taught.labels, target)
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

    def evaluations(self, own: Times) -> int:
        """Return the number of steps."""
        return sum(map(len, own))
