import time

import pytest
import torch
from ddim.experiments.piece import Setup
from safetensors.torch import load_file

from ddim.data import to_uint8
from ddim.experiments import gallery, strips, timing
from ddim.experiments.cost import affordable
from ddim.samplers import DDIM
from ddim.sampling import Sampling
from ddim.timesteps import timesteps


def test_the_galleries_are_what_the_model_samples(tmp_path, model):
    facts = gallery.make(Setup(tmp_path, model))
    assert facts["cut"] is None
    for name, eta in (("ddim", 0.0), ("ddpm", 1.0)):
        drawn = load_file(tmp_path / f"samples/{name}.safetensors")["images"]
        expected = to_uint8(model.sample(100, steps=20, eta=eta, batch_size=100, progress=False))
        assert torch.equal(drawn, expected)
        assert (facts[name]["steps"], facts[name]["calls"], facts[name]["count"]) == (20, 20, 100)
        assert facts[name]["seconds"] > 0


@pytest.mark.parametrize(("sampler", "spacing"), [("unipc", "log-snr"), ("ddim", "quadratic")])
def test_the_ladder_that_is_told_is_the_one_that_was_walked(tmp_path, model, sampler, spacing):
    model.sampling = Sampling(sampler=sampler, spacing=spacing)
    told = gallery.make(Setup(tmp_path, model), seconds=0)["spacing"]
    drawn = load_file(tmp_path / "samples/ddim.safetensors")["images"]
    assert torch.equal(drawn, to_uint8(model.sample(36, steps=10, eta=0.0, spacing=told, progress=False)))
    facts = strips.make(Setup(tmp_path, model), seconds=0)
    times = load_file(tmp_path / "samples/strips.safetensors")["times"]
    assert torch.equal(times, timesteps(model.schedule, facts["steps"], facts["spacing"]))


def test_a_gallery_calls_the_network_as_often_as_it_says(tmp_path, model):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    facts = gallery.make(Setup(tmp_path, model))
    assert len(calls) == facts["ddim"]["calls"] + facts["ddpm"]["calls"]


@pytest.mark.parametrize("classes", [None, 3])
def test_strips_end_in_the_samples_of_the_same_seed(tmp_path, save_model, classes):
    model = save_model(classes=classes)
    facts = strips.make(Setup(tmp_path, model))
    found = load_file(tmp_path / "samples/strips.safetensors")
    assert found["times"].tolist() == list(range(20, -1, -1))
    assert torch.equal(found["eta0.x"][0], found["eta1.x"][0])  # the same starting noise
    for eta in (0, 1):
        images = to_uint8(model.sample(facts["count"], steps=facts["steps"], eta=eta, progress=False))
        assert torch.equal(found[f"eta{eta}.x"][-1], images)
        assert torch.equal(found[f"eta{eta}.x0"][-1], images)
    assert not torch.equal(found["eta0.x"][-1], found["eta1.x"][-1])


def test_strips_show_what_the_network_says_of_that_very_frame(model):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    shots = list(strips.frames(model, DDIM(0.0), 10, count=2))
    assert len(calls) == 10
    assert len(shots) == 11
    with torch.no_grad():
        for shot in shots[:-1]:
            said = model.denoise()(shot.x, model.schedule(shot.t)).x0
            torch.testing.assert_close(shot.x0, said)


def test_long_strips_keep_some_of_their_frames(tmp_path, save_model):
    strips.make(Setup(tmp_path, save_model(T=100)))
    times = load_file(tmp_path / "samples/strips.safetensors")["times"]
    assert len(times) == strips.FRAMES
    assert (times[0], times[-1]) == (100, 0)
    assert (times.diff() < 0).all()


def test_timing_measures_every_step_number_that_the_schedule_has(tmp_path, model):
    facts = timing.make(Setup(tmp_path, model))
    assert [row["steps"] for row in facts["rows"]] == [10, 20]
    assert facts["batch"] == 64
    for row in facts["rows"]:
        assert row["seconds"] > 0
        assert row["seconds_per_image"] == pytest.approx(row["seconds"] / 64)
        assert row["ratio_to_forwards"] == pytest.approx(row["seconds"] / (row["steps"] * row["forward_seconds"]))
    assert not list(tmp_path.glob("samples/*"))


def test_the_bare_calls_take_no_time_of_the_run_and_change_no_sample(model, monkeypatch):
    def slow(*_):
        time.sleep(0.02)
        return 0.02

    monkeypatch.setattr(timing, "forward_once", slow)
    sampler = timing.Interleaved(model, batch=2, steps=20)
    images = model.sample(2, steps=20, sampler=sampler, progress=False)
    assert torch.equal(images, model.sample(2, steps=20, eta=0.0, progress=False))
    assert sampler.forwards == [0.02] * 20
    assert sampler.paused >= 0.4


def test_the_first_choice_that_fits_is_taken():
    choices = [100, 50, 10]
    assert affordable(choices, float, None) == 100
    assert affordable(choices, float, 60) == 50
    assert affordable(choices, float, 1) == 10
