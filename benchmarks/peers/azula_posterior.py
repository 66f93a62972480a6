"""azula's posterior samplers on a ddim model, from the same noise, on the same levels and with the same clipping.

azula (https://github.com/probabilists/azula, 0.11) takes flat images. Its samplers draw by `torch.randn_like`, which
`restore` replaces, so that the k-th draw of an image is the same as in ddim.
"""

from collections.abc import Callable, Sequence
from unittest import mock

import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import DiffPIRDenoiser, MMPSDenoiser, RePaintSampler
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import Schedule
from azula.sample import DDIMSampler
from torch import Tensor

from ddim.edit import Mask, Operator
from ddim.level import Denoise, Level
from ddim.noise import ImageNoise

ITERATIONS = 5  # of the linear solver, as many as ddim's PiGDM takes
SOLVED = 20  # of the linear solver of DiffPIR, whose products call no network


class Levels(Schedule):
    """The levels of a trajectory as azula's times: 1 is the noisiest, 0 the clean one."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = levels

    def at(self, t: Tensor) -> Level:
        """Return the level of a time."""
        return self.levels[round((1 - float(t)) * (len(self.levels) - 1))]

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        level = self.at(t)
        return level.alpha, level.sigma


class Prior(Denoiser):
    """A `Denoise` on flat images."""

    def __init__(self, denoise: Denoise, schedule: Levels, shape: Sequence[int]) -> None:
        super().__init__()
        self.denoise, self.schedule, self.shape = denoise, schedule, shape

    def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
        """Return E[x0 | x_t]."""
        x0 = self.denoise(x_t.reshape(-1, *self.shape), self.schedule.at(t)).x0
        return DiracPosterior(mean=x0.flatten(1))


class Clipped(Denoiser):
    """Another denoiser's mean, clipped to [-1, 1]."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
        """Return the clipped mean."""
        return DiracPosterior(mean=self.denoiser(x_t, t).mean.clamp(-1, 1))


def restore(
    denoise: Denoise,
    y: Tensor,
    operator: Operator,
    noise_std: float,
    method: str,
    levels: Sequence[Level],
    noise: ImageNoise,
    shape: Sequence[int],
    times: int = 1,
) -> Tensor:
    """Return one sample of each image given `y`, (B, C, H, W).

    Args:
        denoise, y, operator, noise_std: as for `ddim.edit.posterior`.
        method: "mmps", "diffpir" or "repaint".
        levels: of the trajectory, noisiest first.
        noise: its first draw is x_T.
        shape: (C, H, W).
        times: how often RePaint takes each step.
    """

    def like(x: Tensor) -> Tensor:
        return noise(x.reshape(-1, *shape)).reshape(x.shape)

    measure, measured = flat(operator, y, shape)
    prior, steps = Prior(denoise, Levels(levels), shape), len(levels) - 1
    x = noise(torch.empty(len(y), *shape)).flatten(1)
    options = {"eta": 1.0, "steps": steps, "silent": True, "dtype": torch.float64}
    if method == "repaint":
        assert isinstance(operator, Mask)
        known = operator.mask.expand(*shape).flatten()
        sampler = RePaintSampler(Clipped(prior), y.flatten(1), known, iterations=times, **options)
    elif method == "mmps":
        covariance = IsotropicCovariance(noise_std**2)
        guided = MMPSDenoiser(prior, measured, measure, covariance, iterations=ITERATIONS)
        sampler = DDIMSampler(Clipped(guided), **options)
    else:
        guided = DiffPIRDenoiser(prior, measured, measure, noise_std**2, lmbda=1.0, iterations=SOLVED)
        sampler = DDIMSampler(Clipped(guided), **options)
    with mock.patch("torch.randn_like", like):
        return sampler(x).reshape(-1, *shape)


def flat(operator: Operator, y: Tensor, shape: Sequence[int]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return an operator on flat images, and its measurement; of a mask only the known pixels."""
    if isinstance(operator, Mask):
        known = operator.mask.expand(*shape).flatten()
        return (lambda x: x[..., known]), y.flatten(1)[..., known]
    return (lambda x: operator.forward(x.reshape(-1, *shape)).flatten(1)), y.flatten(1)
