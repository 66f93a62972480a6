"""A training may take days: what it keeps in memory must not grow with its steps."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from ddim import schedule
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train import Plan, checkpoints, fit
from ddim.train.state import State

STATM = Path("/proc/self/statm")
STEPS = 10_000
SETTLED = 2_000  # updates after which all caches are filled
TOLERANCE = 1 << 20  # bytes; 8,000 updates that each keep 132 of them, a few numbers, would show


class Smallest(nn.Module):
    """One weight, so that what takes time and memory is the loop itself."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, label):
        return self.gain * x


def resident():
    """Bytes of memory that this process holds."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="only Linux says it there")
def test_memory_is_flat_over_ten_thousand_updates(tmp_path):
    """Of a loop with all that it can remember: averages, moments, the guard, the order of epochs, checkpoints."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (100, 1, 4, 4), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.arange(100) % 3, ("a", "b", "c"), "random", mirror=True)
    model = Denoiser(Smallest(), schedule.linear(), shape=(1, 4, 4), classes=3)
    plan = Plan(steps=STEPS, batch_size=2, ema=(0.1,), precision="fp32")
    state, sizes = State(model.network, plan), {}

    def work():
        for now in fit(model, images, plan, state=state):
            if now.step % 500 == 0:
                checkpoints.save(state, tmp_path)
            if now.step % SETTLED == 0:
                sizes[now.step] = resident()

    with ThreadPoolExecutor(1) as thread:  # its stack is short: `torch.manual_seed` formats all of it each time
        thread.submit(work).result()
    assert sizes[STEPS] - sizes[SETTLED] < TOLERANCE, sizes
