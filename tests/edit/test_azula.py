"""azula's posterior samplers, as `benchmarks/restoration.py` calls them, and ours are the same where they should be."""

from pathlib import Path

import correlated
import pytest
import torch
from correlated import DATA, SCHEDULE, SHAPE

from ddim.edit import Blur, Box, SuperResolution, posterior
from ddim.guidance import clip_x0
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, trajectory
from ddim.timesteps import levels, timesteps

pytest.importorskip("azula")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def restore(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers.azula_posterior import restore

    return restore


def both(restore, operator, noise_std, ours, theirs):
    """A sample of each of three images by both, from the same noise."""
    visited = levels(SCHEDULE, timesteps(SCHEDULE, 10, "log-snr"))
    x0 = DATA.mean.reshape(1, *SHAPE) + torch.tensor([-0.4, 0.1, 0.5]).reshape(3, 1, 1, 1)
    y = operator.forward(x0.float())
    noise = ImageNoise(0, range(3))
    denoise = clip_x0(posterior(correlated.denoise, y, operator, noise_std, ours))
    *_, end = trajectory(DDIM(eta=1.0), denoise, noise(torch.empty(3, *SHAPE)), visited, noise)
    given = (correlated.denoise, y, operator, noise_std, theirs, visited, ImageNoise(0, range(3)), SHAPE)
    return end, restore(*given)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
@pytest.mark.parametrize(
    "operator", [SuperResolution(2), Box(SHAPE, 1, 1, 2, 2), Blur(0.7)], ids=["super-resolution", "box", "blur"]
)
def test_diffpir_is_the_same_method(restore, operator):
    """So the noise, the levels, the clipping and the operators are the same."""
    end, theirs = both(restore, operator, 0.1, "diffpir", "diffpir")
    torch.testing.assert_close(theirs.double(), end.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_pigdm_is_mmps_where_the_solvers_converge(restore):
    """Four measurements need four iterations; both take five."""
    end, theirs = both(restore, SuperResolution(2), 0.1, "pigdm", "mmps")
    torch.testing.assert_close(theirs.double(), end.double(), rtol=1e-3, atol=1e-3)
