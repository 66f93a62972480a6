"""Forward diffusion: from the clean image to noise, at once or step by step."""

import math

from torch import Tensor

from ddim.level import Level


def q_sample(x0: Tensor, at: Level, eps: Tensor) -> Tensor:
    """Return x_t = alpha_t x_0 + sigma_t eps, a draw from q(x_t | x_0).

    On a schedule that preserves variance this is sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (DDIM, Eq. 4).

    Args:
        x0, eps: clean images in [-1, 1] and standard normal noise, (B, C, H, W).
        at: the level to reach, one for the whole batch or one for each image.
    """
    return at.alpha * x0 + at.sigma * eps


def start(at: Level, noise: Tensor) -> Tensor:
    """Return x_T from standard normal noise: where the trajectories of new images start.

    It is the noise itself on a schedule that preserves variance (DDPM, arXiv 2006.11239, section 2), and sigma times
    the noise on another one (EDM, arXiv 2206.00364, Algorithm 1).

    Args:
        at: the first level that the sampler visits, one for the whole batch.
        noise: (B, C, H, W).
    """
    return start_std(at) * noise


def start_std(at: Level) -> float:
    """Return the standard deviation of x_T: 1 if alpha^2 + sigma^2 = 1, and sigma otherwise."""
    alpha, sigma = float(at.alpha), float(at.sigma)
    return 1.0 if math.isclose(alpha**2 + sigma**2, 1, rel_tol=1e-9) else sigma


def q_step(x: Tensor, at: Level, to: Level, z: Tensor) -> Tensor:
    """Return x_t = (alpha_t / alpha_s) x_s + std z, a draw from q(x_t | x_s) for s < t; std is `added_noise`.

    On a schedule that preserves variance this is sqrt(abar_t / abar_s) x_s + sqrt(1 - abar_t / abar_s) z, and for
    s = t - 1 DDPM's chain, sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) z (arXiv 2006.11239, Eq. 2).

    Args:
        x, z: images at level s and standard normal noise, (B, C, H, W).
        at, to: level s, and the noisier level t to reach.
    """
    return (to.alpha / at.alpha) * x + added_noise(at, to) * z


def added_noise(less: Level, more: Level) -> Tensor:
    """Return the standard deviation of the noise that q(x_t | x_s) adds.

    It is sqrt(sigma_t^2 - (alpha_t sigma_s / alpha_s)^2), which is sqrt(1 - abar_t / abar_s) for
    alpha^2 + sigma^2 = 1; and 0 if t is not noisier than s.

    Args:
        less: level s, the less noisy one: where a forward step starts, or a sampling step ends.
        more: level t, the noisier one.
    """
    return (more.sigma**2 - (more.alpha * less.sigma / less.alpha) ** 2).clamp(min=0).sqrt()
