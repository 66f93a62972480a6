"""The tab Latent goes between images as the library and the command line do."""

import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ddim import Denoiser, schedule
from ddim.cli import main
from ddim.pictures import grid, to_uint8

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio import pixels
from ddim.studio.latent import CORNERS, Way, between, round_trips, view
from ddim.studio.models import Models


@pytest.fixture
def models(run_folder):
    return Models([str(run_folder)])


def images(count, shape):
    torch.manual_seed(count)
    return torch.randint(0, 256, (count, *shape)).float() / 127.5 - 1


@pytest.mark.parametrize("count", [2, 4])
def test_python_and_command_line_go_the_shown_way(models, run_folder, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, wanted = models.get(str(run_folder)), Way(str(run_folder), 4, 3)
    x0 = images(count, model.shape)
    for name, x in zip(CORNERS.lower(), to_uint8(x0), strict=False):
        (tmp_path / f"{name}.png").write_bytes(pixels.png(x))
    shown = np.asarray(grid(between(model, x0, wanted), 3))
    exec(wanted.python(models, count), {})
    assert np.array_equal(np.asarray(Image.open("interpolation.png")), shown)
    main(shlex.split(wanted.command(count))[1:])
    assert np.array_equal(np.asarray(Image.open("interpolation.png")), shown)


class Smooth(nn.Module):
    """A network whose output changes less than its input, so that the iterations of an inversion converge."""

    def forward(self, x, t):
        return 0.9 * x.tanh()


def test_the_exact_inversion_loses_nothing_and_the_refined_one_less():
    model = Denoiser(Smooth(), schedule.linear(), shape=(1, 8, 8))
    x0 = images(2, model.shape)
    plain, refined, exact = round_trips(model, x0, Way("smooth", 8))
    assert exact.error < 1e-9 < refined.error < plain.error
    assert torch.equal(exact.images, to_uint8(x0))
    assert [trip.calls for trip in (plain, refined, exact)] == [16, 40, 16]
    assert "40 network calls" in view(x0, plain.images, 2, [plain, refined, exact])
