"""The tab Restore draws what the library and the command line draw, and keeps what is known."""

import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from ddim.cli import main
from ddim.errors import UserError
from ddim.pictures import grid, to_uint8

gr = pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio import pixels  # noqa: E402
from ddim.studio.models import Models  # noqa: E402
from ddim.studio.restore import Restoration, samples, view  # noqa: E402


@pytest.fixture
def models(run_folder):
    return Models([str(run_folder)])


@pytest.fixture
def damaged(model):
    torch.manual_seed(0)
    known = torch.ones(8, 8, dtype=torch.bool)
    known[2:5, 3:] = False
    return torch.randint(0, 256, model.shape).float() / 127.5 - 1, known


@pytest.mark.parametrize("method", ["ddnm", "pigdm"])
def test_python_and_command_line_draw_the_shown_samples(models, run_folder, damaged, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x0, known = damaged
    wanted = Restoration(str(run_folder), method, 2, 2, None, 3)
    found = samples(models.get(str(run_folder)), x0, known, wanted)
    (tmp_path / "image.png").write_bytes(pixels.png(to_uint8(x0)))
    (tmp_path / "mask.png").write_bytes(pixels.png(known[None].to(torch.uint8) * 255))
    exec(wanted.python(models), {})
    assert np.array_equal(np.asarray(Image.open("restored.png")), np.asarray(grid(found, 2)))
    main(shlex.split(wanted.command())[1:])
    measured = torch.where(known, x0, 0)[None]
    assert np.array_equal(np.asarray(Image.open("restored.png")), np.asarray(grid(torch.cat([measured, found]), 3)))


def test_known_pixels_are_kept_and_unknown_ones_differ(models, run_folder, damaged):
    x0, known = damaged
    found = samples(models.get(str(run_folder)), x0, known, Restoration(str(run_folder), steps=4))
    assert torch.equal(found[:, :, known], x0[:, known].expand(4, 1, -1))
    assert (found[:, :, ~known].std(0) > 0).any()
    assert "On the 15 unknown pixels" in view(x0, known, found)


@pytest.mark.parametrize(("value", "sentence"), [(True, "All pixels are known"), (False, "no known pixel")])
def test_a_mask_of_everything_or_nothing_is_refused_in_a_sentence(models, run_folder, damaged, value, sentence):
    with pytest.raises(UserError, match=sentence):
        samples(models.get(str(run_folder)), damaged[0], torch.full((8, 8), value), Restoration(str(run_folder)))
