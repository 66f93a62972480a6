"""What the tests of backends share: a cache folder of their own, and a model that depends on all of its inputs."""

import pytest
import torch
from torch import nn

from ddim import nets, schedule
from ddim.denoiser import Denoiser


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDIM_BACKEND")
    return tmp_path / "cache/backends"


@pytest.fixture
def by_class():
    """A small U-Net with 3 classes on images of 7 x 5 pixels, no weight of which is 0."""
    torch.manual_seed(0)
    network = nets.build("unet", 1, "tiny", classes=3, width=16)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return Denoiser(network, schedule.linear(), predicts="v", shape=(1, 7, 5), classes=3).eval()
