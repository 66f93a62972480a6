"""How much each noise level counts in the loss.

A weighting is a function w of SNR = alpha^2 / sigma^2 that multiplies ||eps - eps_theta||^2. A network that
predicts x0 or v makes the same error in other units, and then the weight is converted.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddim.level import Level
from ddim.registry import Registry

GAMMA = 5.0  # the SNR above which a level counts less (arXiv 2303.09556, section 3.4)

weightings: Registry[Callable[[Tensor], Tensor]] = Registry("weighting")
weightings["min-snr"] = lambda snr: (GAMMA / snr).clamp(max=1)  # min(SNR, gamma) / SNR (arXiv 2303.09556)
weightings["soft-min-snr"] = lambda snr: GAMMA / (snr + GAMMA)  # the same without its corner (arXiv 2401.11605)

_in_eps: dict[str, Callable[[Tensor], Tensor]] = {  # ||eps - eps_theta||^2 over the square error of the output
    "eps": torch.ones_like,
    "x0": lambda snr: snr,
    "v": lambda snr: snr / (1 + snr),
}


def weight(weighting: str, predicts: str, at: Level) -> Tensor:
    """What to multiply the loss of each image by.

    Args:
        weighting: "simple", which is 1 whatever the network predicts, "min-snr" or "soft-min-snr".
        predicts: "eps", "x0" or "v".
        at: a level for each image, (B, 1, 1, 1).

    Returns:
        (B,) in the dtype of the level.

    Raises:
        UserError: an unknown weighting.
    """
    snr = (at.alpha / at.sigma).square().flatten()
    return torch.ones_like(snr) if weighting == "simple" else weightings[weighting](snr) * _in_eps[predicts](snr)
