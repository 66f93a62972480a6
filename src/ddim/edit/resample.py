"""RePaint's resampling: take each step several times, with noise put back in between."""

from collections.abc import Sequence

from torch import Tensor

from ddim.errors import UserError, number
from ddim.forward import q_step
from ddim.level import Denoise, Level, Noise
from ddim.samplers import Sampler
from ddim.samplers.base import State
from ddim.schedule import Schedule


class Resample(Sampler):
    """A sampler that takes each step `times` times (RePaint, arXiv 2201.09865, Algorithm 1, with jumps of one step).

    After each time but the last, noise is added to return to the level at which the step starts (`q_step`). So the
    unknown pixels see the known ones again, which harmonises them. With "ddnm", a mask and DDIM's eta = 1 this is
    RePaint.

    Args:
        sampler: a one-step method, such as DDIM; one that keeps a state between its steps cannot go back.
        times: U, at least 1; each is a network call.

    Raises:
        UserError: from the first step, a sampler that keeps a state.
    """

    stochastic = True

    def __init__(self, sampler: Sampler, times: int) -> None:
        self.sampler, self.times = sampler, number("The times of resampling", times, int, 1)

    def calls(self, levels: Sequence[Level]) -> int:
        return self.times * self.sampler.calls(levels)

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        state = self.sampler.init(levels, schedule)
        if state is not None:
            raise UserError(f"{self.sampler} keeps a state between its steps and cannot resample; take DDIM(eta=1).")
        return state

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Step to s and back to t, and end at s."""
        assert noise is not None, "a stochastic step needs noise"
        end, _ = self.sampler.step(denoise, x, at, to, state, noise)
        for _ in range(self.times - 1):
            x = q_step(end, to, at, noise(end))
            end, _ = self.sampler.step(denoise, x, at, to, state, noise)
        return end, state
