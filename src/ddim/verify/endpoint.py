"""How far a model's solvers end from where very many steps lead, for a given number of network calls."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddim import timesteps
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.verify.distances import Distances, Row
from ddim.verify.walks import Walk

REFERENCE_STEPS = 1000

Tick = Callable[[], object]
"""Called after each call of the network."""


class Start:
    """The noise that all walks of a model start from, and the model as they all see it.

    Args:
        model: in eval mode, on the device to use.
        count: how many images.
        seed: of the noise; classes in turn, as in `Denoiser.sample`.
        tick: called after each call of the network.
    """

    def __init__(self, model: Denoiser, count: int, seed: int = 0, tick: Tick = lambda: None) -> None:
        if count < 1:
            raise UserError(f"Ask for at least 1 image; got {count}.")
        self.model, self.count, self.seed, self.tick = model, count, seed, tick
        empty = torch.empty(count, *model.shape, device=model.device, dtype=model.dtype)
        self.xT = ImageNoise(seed, range(count))(empty)
        self.denoise = self._ticking(
            model.denoise(None if model.classes is None else torch.arange(count) % model.classes)
        )

    def _ticking(self, denoise: Denoise) -> Denoise:
        def counted(x: Tensor, at: Level) -> Prediction:
            prediction = denoise(x, at)
            self.tick()
            return prediction

        return counted

    @torch.no_grad()
    def end(self, sampler: Sampler, levels: Sequence[Level]) -> Tensor:
        """The images that a walk ends with, on the CPU, in [-1, 1]."""
        *_, x = trajectory(sampler, self.denoise, self.xT, levels, schedule=self.model.schedule)
        return x.float().cpu().clamp(-1, 1)

    def reference(self) -> dict[str, Tensor]:
        """Where DDIM ends in very many steps, and in half as many: "whole" and "half"."""
        T = self.model.schedule.T
        steps = {"whole": min(REFERENCE_STEPS, T), "half": max(1, min(REFERENCE_STEPS, T) // 2)}
        schedule = self.model.schedule
        return {
            name: self.end(DDIM(), timesteps.levels(schedule, timesteps.timesteps(schedule, S)))
            for name, S in steps.items()
        }


def calls(model: Denoiser, todo: Sequence[Walk], reference: bool = True) -> int:
    """How many calls of the network all of it takes."""
    T = min(REFERENCE_STEPS, model.schedule.T)
    return sum(walk.sampler.calls(walk.levels) for walk in todo) + (T + max(1, T // 2) if reference else 0)


def measure(start: Start, todo: Sequence[Walk], reference: dict[str, Tensor]) -> Distances:
    """Take the walks, and measure how far each ends from the reference.

    Args:
        start: the noise and the model.
        todo: of `walks`.
        reference: of `Start.reference`, for the same noise.
    """
    rows = [
        Row(
            walk.solver,
            walk.spacing,
            walk.budget,
            walk.sampler.calls(walk.levels),
            len(walk.levels) - 1,
            distance(start.end(walk.sampler, walk.levels), reference["whole"]),
        )
        for walk in todo
    ]
    usual = start.model.sampling
    return Distances(
        (usual.sampler, usual.spacing),
        distance(reference["half"], reference["whole"]),
        min(REFERENCE_STEPS, start.model.schedule.T),
        start.count,
        start.seed,
        tuple(rows),
    )


def distance(one: Tensor, other: Tensor) -> float:
    """The root mean square over all pixels; infinite for what is no number."""
    found = float((one - other).square().mean().sqrt())
    return found if math.isfinite(found) else math.inf
