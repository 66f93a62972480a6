import io

import pytest
import torch
from PIL import GifImagePlugin
from safetensors.torch import load_file
from torch import nn

from ddim import model_io, nets, report, schedule
from ddim.denoiser import Denoiser
from ddim.experiments import experiments, strips
from ddim.experiments.results import load_samples
from ddim.experiments.results import read as read_result
from ddim.plots.canvas import styled
from ddim.report import network
from ddim.report.network import stages
from ddim.run_folder import read


class Other(nn.Module):
    """A network that is no U-Net: with a parameter of its own, and a weight that two layers may share."""

    def __init__(self, share=False):
        super().__init__()
        self.enter, self.body = nn.Conv2d(1, 8, 3, padding=1), nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))
        if share:
            self.body[1].weight = self.body[0].weight
        self.leave, self.scale, self.time = nn.Conv2d(8, 1, 1), nn.Parameter(torch.ones(1)), nn.Linear(1, 8)

    def forward(self, x, t):
        h = self.enter(x) + self.time(t[:, None])[:, :, None, None]
        for layer in self.body:
            h = layer(h)
        return self.scale * self.leave(h)


def model(kind, classes=None, size="tiny"):
    network = Other() if kind == "other" else nets.build(kind, 1, size, classes=classes)
    return Denoiser(network, schedule.linear(T=20), shape=(1, 28, 28), classes=classes).eval()


@pytest.mark.parametrize(
    ("kind", "classes", "size"),
    [("unet", None, "small"), ("unet", 10, "tiny"), ("plain", None, "small"), ("other", None, "")],
)
def test_the_stages_hold_all_parameters(kind, classes, size):
    one = model(kind, classes, size)
    assert sum(stage.parameters for stage in stages(one)) == sum(p.numel() for p in one.network.parameters())
    assert not any(module._forward_hooks for module in one.network.modules())


def test_the_stages_of_a_u_net_have_the_shapes_at_which_they_work():
    found = {(stage.name, stage.index): stage.shape for stage in stages(model("unet", size="mini"))}
    assert found == {
        ("condition", None): None,
        ("stem", None): (32, 28, 28),
        ("down", 0): (32, 28, 28),
        ("down", 1): (64, 14, 14),
        ("down", 2): (128, 7, 7),
        ("middle", None): (128, 7, 7),
        ("up", 0): (128, 7, 7),
        ("up", 1): (64, 14, 14),
        ("up", 2): (32, 28, 28),
        ("head", None): (1, 28, 28),
    }


def test_the_stages_of_the_plain_network_have_the_shapes_at_which_they_work():
    found = [stage.shape for stage in stages(model("plain", size="small"))]
    down = [(64, 28, 28), (128, 14, 14), (256, 7, 7)]
    assert found == [None, *down, *down[1::-1], (1, 28, 28)]


def test_a_shared_weight_counts_once():
    shared = Denoiser(Other(share=True), schedule.linear(T=20), shape=(1, 28, 28))
    found = {(stage.name, stage.index): stage.parameters for stage in stages(shared)}
    assert (found["body", 0], found["body", 1]) == (64 + 8, 8)
    assert found["other", None] == 1  # the scale, which no layer owns


@pytest.mark.parametrize("kind", ["unet", "plain", "other"])
def test_the_drawing_names_every_stage_and_the_total(tmp_path, kind):
    one = model(kind)
    model_io.save(one, tmp_path)
    figure = network.network(read(tmp_path, one.network))
    words = [text.get_text() for text in figure.texts]
    assert words[-1].endswith(f": {sum(p.numel() for p in one.network.parameters()):,} parameters")
    for stage in stages(one):
        assert f"{stage.parameters:,} parameter{'s' * (stage.parameters != 1)}" in words
    arrows = 0 if kind == "other" else 6 if kind == "plain" else 10
    assert sum(type(patch).__name__ == "FancyArrowPatch" for patch in figure.axes[0].patches) == arrows


@pytest.mark.parametrize(("kind", "size"), [("unet", "base"), ("plain", "base"), ("plain", "small")])
def test_no_word_of_the_drawing_leaves_its_box(tmp_path, kind, size):
    one = model(kind, size=size)
    model_io.save(one, tmp_path)
    with styled():
        figure = network.network(read(tmp_path, one.network))
        figure.draw_without_rendering()
        boxes = [p.get_window_extent() for p in figure.axes[0].patches if type(p).__name__ == "FancyBboxPatch"]
        for text in figure.texts[:-1]:  # all but the title
            extent = text.get_window_extent()
            if text.get_text() != "skip connection":
                assert any(
                    box.x0 < extent.x0 and extent.x1 < box.x1 and box.y0 < extent.y0 and extent.y1 < box.y1
                    for box in boxes
                ), text.get_text()


def test_a_run_with_a_network_of_the_users_own(trained):
    folder = trained()
    model_io.save(Denoiser(Other(), schedule.linear(T=20), shape=(1, 8, 8)), folder)
    page = report.write(folder, Other()).read_text(encoding="utf-8")
    assert '<figure id="network">' in page


def test_strips_pair_each_frame_with_its_guess(complete):
    tensors = load_file(complete / "samples/strips.safetensors")
    stops = torch.tensor([0, 3, 20])
    pairs = strips.pairs_of_rows(tensors, "eta1", stops)
    assert pairs.shape == (6, 6, 1, 8, 8)
    assert torch.equal(pairs[2, 1], tensors["eta1.x"][3, 2])
    assert torch.equal(pairs[2, 4], tensors["eta1.x0"][3, 2])


def animation(folder):
    one = experiments["strips"]
    samples = load_samples(folder, one, (1, 8, 8))
    assert samples is not None
    return one.extras[0].figure(read_result(folder, one).result, samples)


def opened(gif):
    return GifImagePlugin.GifImageFile(io.BytesIO(gif))


def test_the_animation_has_a_frame_for_each_time_and_rests_on_the_last(complete):
    with opened(animation(complete)) as gif:
        assert gif.n_frames == len(load_file(complete / "samples/strips.safetensors")["times"]) == 21
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
        assert durations == [600, *[80] * 19, 3000]
        assert gif.info["loop"] == 0


def test_the_animation_is_cut_to_its_size(complete, monkeypatch):
    monkeypatch.setattr(strips, "LARGEST", 1)
    with opened(animation(complete)) as smallest:
        assert smallest.n_frames == 6  # one frame in four
