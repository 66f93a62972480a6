"""What several tests share: a small model, and closed-form denoisers that need no network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddim import nets, schedule
from ddim.denoiser import Denoiser
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0


@pytest.fixture
def model() -> Denoiser:
    """A tiny U-Net on 8x8 images whose output depends on all of its input: no layer is left at zero."""
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", width=16)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return Denoiser(network, schedule.linear(), shape=(1, 8, 8)).eval()


@pytest.fixture
def gaussian() -> Callable[[float, float], Denoise]:
    """The exact denoiser for images whose pixels are independent N(mean, std^2)."""

    def make(mean: float, std: float) -> Denoise:
        def denoise(x: Tensor, at: Level) -> Prediction:
            gain = at.alpha * std**2 / (at.alpha**2 * std**2 + at.sigma**2)
            return from_x0(x, at, mean + gain * (x - at.alpha * mean))

        return denoise

    return make


@pytest.fixture
def run_folder(model: Denoiser, tmp_path: Path) -> Path:
    """A run folder that holds `model`."""
    from ddim import checkpoint

    checkpoint.save(model, tmp_path / "run")
    return tmp_path / "run"
