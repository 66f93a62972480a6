"""DDIM and DDPM: one family, from deterministic (eta = 0) to ancestral (eta = 1) (arXiv 2010.02502)."""

from typing import Literal

from torch import Tensor

from ddim.errors import number
from ddim.forward import added_noise
from ddim.level import Denoise, Level, Noise
from ddim.samplers.base import Sampler, State, register


@register("ddim")
class DDIM(Sampler):
    """DDIM's step (arXiv 2010.02502, Eqs. 12 and 16), from t to s.

        x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - std^2) eps_theta + std z                   (Eq. 12)
        std = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s)                (Eq. 16)

    One network call per step, first order. The levels may be one per image.

    Args:
        eta: share of DDPM's noise that is injected, in [0, 1]: 0 is DDIM, deterministic; 1 is DDPM. "hat" is
            sigma-hat: DDPM's larger variance, with the eps term of eta = 1 (appendix D.3). "max" is the
            most that Eq. 12 allows, std = sqrt(1 - abar_s): x_s is x0 with new noise. It is for networks that predict
            an image in one call, and turns them into consistency sampling (arXiv 2303.01469, Algorithm 1).

    Raises:
        UserError: an eta outside [0, 1].
    """

    variants = ({"eta": 0.5},)

    def __init__(self, eta: float | Literal["hat", "max"] = 0.0) -> None:
        allowed = "a number from 0 (DDIM) to 1 (DDPM), 'hat' or 'max'"
        self.eta = eta if eta in ("hat", "max") else number("eta", eta, float, 0, 1, allowed)
        self.stochastic = self.eta != 0

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - std^2) eps_theta + std z (Eq. 12)."""
        x0, eps = denoise(x, at)
        if not self.stochastic:
            return to.alpha * x0 + to.sigma * eps, state  # Eq. 12 with std = 0
        assert noise is not None, "a stochastic step needs noise"
        std, injected = self.std(at, to)
        direction = (to.sigma**2 - std**2).clamp(min=0).sqrt()  # the clamp only removes rounding below 0
        return to.alpha * x0 + direction * eps + injected * noise(x), state  # Eq. 12

    def std(self, at: Level, to: Level) -> tuple[Tensor, Tensor]:
        """Return the std in the eps term of Eq. 12, and the std of the injected noise.

        std = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s)  (Eq. 16). The two differ only for
        sigma-hat, which injects sqrt(1 - abar_t / abar_s), and nothing in a step that ends at t = 0.
        """
        if self.eta == "max":
            return to.sigma, to.sigma
        forward = added_noise(to, at)  # sqrt(1 - abar_t / abar_s)
        if self.eta == "hat":
            return to.sigma / at.sigma * forward, forward * (to.sigma > 0)
        std = self.eta * to.sigma / at.sigma * forward  # Eq. 16
        return std, std


@register("ddpm")
def DDPM() -> DDIM:
    """Return DDPM's sampler with the posterior variance, which is DDIM at eta = 1 (arXiv 2006.11239, Eqs. 6, 7)."""
    return DDIM(eta=1.0)
