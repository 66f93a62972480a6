"""Small models of the tests of backends."""

import torch
from torch import nn

from ddim import schedule
from ddim.backends.base import Source
from ddim.denoiser import Denoiser


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
