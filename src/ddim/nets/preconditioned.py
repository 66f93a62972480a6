"""EDM's preconditioning, around any network (arXiv 2206.00364, section 5 and Table 1)."""

import torch
from torch import Tensor, nn

from ddim.errors import number


class Preconditioned(nn.Module):
    """The denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) of a network F (Eq. 7), for `ddim.schedule.edm`.

        c_skip = s^2 / (sigma^2 + s^2),       c_out   = sigma s / sqrt(sigma^2 + s^2),
        c_in   = 1 / sqrt(sigma^2 + s^2),     c_noise = log(sigma) / 4,                  s = sigma_data

    D is the predicted image: the model has predicts = "x0". On EDM's schedule, the time that a network sees is sigma.

    Args:
        network: F, called as F(c_in x, c_noise[, label]), and with `augmentation=` where that is given.
        sigma_data: s, the standard deviation of the pixels, above 0.

    Raises:
        UserError: a `sigma_data` out of range.
    """

    def __init__(self, network: nn.Module, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network, self.sigma_data = network, number("sigma_data", sigma_data, float, 1e-6, 1e6)
        if isinstance(inner := getattr(network, "config", None), dict):
            self.config = {"name": "preconditioned", "network": inner, "sigma_data": self.sigma_data}

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, augmentation: Tensor | None = None) -> Tensor:
        """Return D for images (B, C, H, W) and sigma (B,)."""
        rest = () if label is None else (label,)
        vector = {} if augmentation is None else {"augmentation": augmentation}
        sigma, s = t.to(torch.promote_types(x.dtype, torch.float32)), self.sigma_data
        total = sigma**2 + s**2
        scales = total.rsqrt(), s**2 / total, sigma * s / total.sqrt()
        c_in, c_skip, c_out = (c.to(x)[:, None, None, None] for c in scales)
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, *rest, **vector)  # type: ignore[no-any-return]
