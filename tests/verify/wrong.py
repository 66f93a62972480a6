"""Solvers with the mistakes that public implementations have shipped. Each must be found out."""

import torch

from ddim.forward import added_noise
from ddim.samplers import DDIM, Sampler


class EtaForItsSquare(DDIM):
    """Room is made for eta std^2 where eta^2 std^2 is injected."""

    def step(self, denoise, x, at, to, state, noise):
        x0, eps = denoise(x, at)
        full = to.sigma / at.sigma * added_noise(to, at)
        direction = (to.sigma**2 - self.eta * full**2).sqrt()
        return to.alpha * x0 + direction * eps + self.eta * full * noise(x), state


class EtaSquared(DDIM):
    """A valid member of the family, but not the one that was asked for."""

    def __init__(self, eta):
        super().__init__(eta**2)


class WrongNoise(DDIM):
    """sqrt(1 - abar_t) in place of sqrt(1 - abar_t / abar_s)."""

    def std(self, at, to):
        std = (self.eta * to.sigma / at.sigma * at.sigma).clamp(max=to.sigma)
        return std, std


class SecondOrder(Sampler):
    """DPM-Solver++(2M) in this test's own words, arXiv 2211.01095, Algorithm 2, with its 1/2 as an argument."""

    order = 2

    def __init__(self, half=0.5):
        self.half = half

    def init(self, levels, schedule=None):
        return None

    def step(self, denoise, x, at, to, state, noise):
        x0 = denoise(x, at).x0
        if to.sigma == 0:
            return to.alpha * x0, None
        now, then = (torch.log(level.alpha / level.sigma) for level in (at, to))
        h, data = then - now, x0
        if state is not None:
            before, earlier = state
            data = x0 + self.half * h / (now - earlier) * (x0 - before)
        x = to.sigma / at.sigma * x - to.alpha * torch.expm1(-h) * data
        return x, (x0, now)


class CallsAtZero(DDIM):
    """Asks the network once more at the level that it arrives at, t = 0 included."""

    def calls(self, levels):
        return 2 * (len(levels) - 1)

    def step(self, denoise, x, at, to, state, noise):
        x, state = super().step(denoise, x, at, to, state, noise)
        denoise(x, to)
        return x, state


class PromisesTooFew(CallsAtZero):
    """Promises half of the calls that it makes, all at noisy levels."""

    def calls(self, levels):
        return len(levels) - 1

    def step(self, denoise, x, at, to, state, noise):
        denoise(x, at)
        return DDIM.step(self, denoise, x, at, to, state, noise)


class Random(DDIM):
    """Draws from a generator of its own."""

    def step(self, denoise, x, at, to, state, noise):
        x, state = super().step(denoise, x, at, to, state, noise)
        return x + 1e-9 * torch.randn_like(x), state


class LooksAround(DDIM):
    """Scales an image by what else is in the batch."""

    def step(self, denoise, x, at, to, state, noise):
        x, state = super().step(denoise, x, at, to, state, noise)
        return x / (1 + 1e-6 * x.abs().mean()), state


class Clamps(DDIM):
    """Clamps x_t to the range of images, not only x0."""

    def step(self, denoise, x, at, to, state, noise):
        x, state = super().step(denoise, x, at, to, state, noise)
        return x.clamp(-1, 1), state
