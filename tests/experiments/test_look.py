import time

import pytest
import torch

from ddim.data import to_uint8
from ddim.experiments import Setup, experiments, strips, timing
from ddim.experiments.cost import affordable
from ddim.samplers import DDIM
from ddim.sampling import Sampling
from ddim.timesteps import timesteps


def test_the_galleries_are_what_the_model_samples(tmp_path, model):
    result, samples = experiments["gallery"].run(Setup(tmp_path, model))
    assert result.cut is None
    for name, eta in (("ddim", 0.0), ("ddpm", 1.0)):
        drawn = samples[f"{name}/images"]
        expected = to_uint8(model.sample(100, steps=20, eta=eta, batch_size=100, progress=False))
        assert torch.equal(drawn, expected)
        half = getattr(result, name)
        assert (half.steps, half.calls, half.count) == (20, 20, 100)


@pytest.mark.parametrize(("sampler", "spacing"), [("unipc", "log-snr"), ("ddim", "quadratic")])
def test_the_spacing_in_the_result_is_the_one_that_was_used(tmp_path, model, sampler, spacing):
    model.sampling = Sampling(sampler=sampler, spacing=spacing)
    result, samples = experiments["gallery"].run(Setup(tmp_path, model), seconds=0)
    drawn, told = samples["ddim/images"], result.spacing
    assert torch.equal(drawn, to_uint8(model.sample(36, steps=10, eta=0.0, spacing=told, progress=False)))
    result, samples = experiments["strips"].run(Setup(tmp_path, model), seconds=0)
    assert torch.equal(samples["times"], timesteps(model.schedule, result.steps, result.spacing))


def test_a_gallery_calls_the_network_as_often_as_it_says(tmp_path, model):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    result, _ = experiments["gallery"].run(Setup(tmp_path, model))
    assert len(calls) == result.ddim.calls + result.ddpm.calls


@pytest.mark.parametrize("classes", [None, 3])
def test_strips_end_in_the_samples_of_the_same_seed(tmp_path, save_model, classes):
    model = save_model(classes=classes)
    result, found = experiments["strips"].run(Setup(tmp_path, model))
    assert found["times"].tolist() == list(range(20, -1, -1))
    assert torch.equal(found["eta0.x"][0], found["eta1.x"][0])  # the same starting noise
    for eta in (0, 1):
        images = to_uint8(model.sample(result.count, steps=result.steps, eta=eta, progress=False))
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
    _, samples = experiments["strips"].run(Setup(tmp_path, save_model(T=100)))
    times = samples["times"]
    assert len(times) == strips.FRAMES
    assert times[[0, -1]].tolist() == [100, 0]
    assert (times.diff() < 0).all()


def test_timing_measures_every_step_number_that_the_schedule_has(tmp_path, model):
    result, samples = experiments["timing"].run(Setup(tmp_path, model))
    assert [row.steps for row in result.rows] == [10, 20]
    assert result.batch == 64
    for row in result.rows:
        assert row.seconds > 0
        assert row.seconds_per_image == pytest.approx(row.seconds / 64)
        assert row.ratio_to_forwards == pytest.approx(row.seconds / (row.steps * row.forward_seconds))
    assert samples == {}


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
