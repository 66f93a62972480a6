"""What the tests of backends share: a cache folder of their own, and models that depend on all of their inputs."""

import pytest
import torch
from torch import nn

from ddim import nets, schedule
from ddim.backends.base import Source
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


def source(model):
    return Source(model.network, model.shape, model.classes, model.schedule.T)


class Plain(nn.Module):
    """Any module, not of the registry; `scale` is no weight, so a file of its weights does not tell it."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.scale = nn.Conv2d(1, 1, 3, padding=1), scale

    def forward(self, x, t):
        return self.scale * self.layer(x) + t[:, None, None, None] / 1000


def plain(scale=1.0, network=None):
    return Denoiser(network or Plain(scale), schedule.linear(), shape=(1, 6, 6)).eval()
