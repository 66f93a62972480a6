"""The plan for a time or for a quality: arithmetic on costs that a test knows, and a clock that the network moves."""

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddim import planner, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.planner import MOST, PLANNED, Calls, Cost, measure, plan, quickest
from ddim.presets import Preset, digest
from ddim.sampling import Sampling

COSTS = [Cost(16, 0.1), Cost(64, 0.34)]
DISTANCES = {4: 9.0, 6: 3.0, 10: 3.5, 20: 2.0}


def preset(model, calls, distance, **changes):
    facts = {
        "sampler": "ddim",
        "times": tuple(1000.0 * (calls - i) / calls for i in range(calls)),
        "found": f"searched for {calls}",
        "calls": calls,
        "weights": digest(model.network),
        "distance": distance,
        "plain": 20.0,
        "ddim": 30.0,
        "best_plain": "unipc, log-snr",
        "extractor": "scattering",
        "reference": "2000 images of digits",
        "count": 300,
    }
    return Preset(**{**facts, **changes})


@pytest.fixture
def tuned(model):
    model.presets = tuple(preset(model, calls, distance) for calls, distance in DISTANCES.items())
    return model


@pytest.mark.parametrize("count", [1, 15, 16, 64, 65, 150, 1000])
@pytest.mark.parametrize("evaluations", [1, 7.5, 40])
def test_the_seconds_are_those_of_a_cost_that_is_linear_in_the_batch(count, evaluations):
    """call(r) = 0.02 + 0.005 r and once(r) = 0.01 + 0.001 r: of such batches the largest take the least time."""
    costs = {size: Cost(size, 0.02 + 0.005 * size, 0.01 + 0.001 * size) for size in (16, 64)}
    batches = math.ceil(count / 64)
    expected = batches * (0.02 * evaluations + 0.01) + count * (0.005 * evaluations + 0.001)
    seconds, size = quickest(Calls(evaluations), count, costs)
    assert seconds == pytest.approx(expected)
    assert size == min(count, 64)


def test_small_batches_are_taken_where_they_are_faster_by_a_tenth():
    assert quickest(Calls(1), 64, {16: Cost(16, 0.1), 64: Cost(64, 0.43)})[1] == 64
    costs = {16: Cost(16, 0.1), 64: Cost(64, 0.5)}
    seconds, size = quickest(Calls(3), 160, costs)
    assert seconds == pytest.approx(3.0)
    assert size == 16


@pytest.mark.parametrize("seconds", [0.4, 1, 3, 10, 30, 1e9])
def test_without_presets_as_many_steps_as_fit_are_taken(model, seconds):
    found = plan(model, 64, seconds=seconds, costs=COSTS)
    assert found.options() == {"steps": found.steps, "batch_size": 64}
    assert list(found.calls) == [found.steps, 0]
    assert found.seconds is not None
    assert found.seconds == pytest.approx(0.34 * found.steps)
    assert found.fits
    assert found.seconds <= PLANNED * seconds
    assert found.steps == MOST or found.seconds + 0.34 > PLANNED * seconds


def test_of_the_presets_that_fit_the_one_with_the_smallest_distance_is_taken(tuned):
    distances = []
    for seconds in (1.6, 2, 2.4, 3, 4, 5, 7, 10, 100, 1e6):
        found = plan(tuned, 64, seconds=seconds, costs=COSTS)
        fitting = [calls for calls in DISTANCES if 0.34 * calls <= PLANNED * seconds]
        assert found.steps == min(fitting, key=DISTANCES.__getitem__)
        assert "the smallest Fréchet distance of the presets that fit" in found.reason
        distances.append(DISTANCES[found.steps])
    assert sorted(distances, reverse=True) == distances  # more time is never worse
    assert set(distances) == {9.0, 3.0, 2.0}


def test_if_no_preset_fits_the_usual_sampler_is_taken(tuned):
    found = plan(tuned, 64, seconds=1.2, costs=COSTS)
    assert found.steps == 3
    assert found.reason.startswith("Plan: unipc, log-snr, 3 steps, as many as fit (no preset fits)")


def test_what_does_not_fit_is_said_with_what_does(tuned):
    found = plan(tuned, 640, seconds=1, costs=COSTS)
    assert (found.steps, found.fits) == (1, False)
    assert found.seconds == pytest.approx(3.4)
    assert "the least, which takes about 3.4 and not 1 seconds" in found.reason
    count = int(found.reason.removesuffix(" images would fit.").rsplit(maxsplit=1)[1])
    assert 100 < count < 200
    assert plan(tuned, count, seconds=1, costs=COSTS).fits
    assert "not even one image would fit" in plan(tuned, 640, seconds=1e-9, costs=COSTS).reason


def test_guidance_doubles_the_calls_in_its_interval(tuned):
    options: dict[str, Any] = {"seconds": 8, "costs": COSTS}
    plain = plan(tuned, 64, **options)
    assert (plain.steps, plain.calls) == (20, (20, 0))
    for weak in (None, tuned):
        guided = plan(tuned, 64, guidance=2.0, weak=weak, **options)
        assert (guided.steps, guided.calls) == (6, (0, 6))
        assert "12 evaluations of the network with guidance" in guided.reason
        assert plan(tuned, 64, guidance=2.0, weak=weak, seconds=16, costs=COSTS)[0] == 20
    assert plan(tuned, 64, guidance=1.0, weak=tuned, **options) == plain
    inside = plan(tuned, 64, guidance=2.0, guidance_interval=(0.3, 5.0), seconds=100, costs=COSTS)
    _, levels = tuned.presets[-1].resolve(tuned.schedule)
    twice = sum(0.3 < float(at.sigma / at.alpha) <= 5 for at in levels[:-1])
    assert 0 < twice < 20
    assert list(inside.calls) == pytest.approx([20 - twice, twice])
    assert inside.seconds == pytest.approx(0.34 * (20 + twice))


def test_a_step_with_several_calls_counts_them(model):
    model.sampling = Sampling(steps=10, sampler="heun", spacing="trailing")
    found = plan(model, 64, seconds=4, costs=COSTS)
    assert (found.steps, found.calls.plain) == (5, 9)  # 10 calls fit; the last of the steps makes one


def test_the_best_quality_is_the_smallest_distance_and_fast_the_fewest_calls_within_a_tenth(model):
    distances = {4: 2.21, 5: 2.19, 10: 2.0, 20: 2.05}
    model.presets = tuple(preset(model, calls, distance) for calls, distance in distances.items())
    assert plan(model, 64, quality="best").options() == {"steps": 10, "batch_size": 64}
    assert plan(model, 64, quality="fast").options() == {"steps": 5, "batch_size": 64}
    assert plan(model, 64, quality="best").seconds is None
    assert plan(model, 64, quality="best").steps == plan(model, 64, seconds=1e9, costs=COSTS).steps


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("quality", ["best", "fast"])
def test_without_presets_the_quality_is_the_default(model, quality, stale):
    model.presets = (preset(model, 5, 1.0, weights="0" * 64),) if stale else ()
    found = plan(model, 64, quality=quality)
    assert found.steps == model.sampling.steps
    assert ("its presets are stale" if stale else "it has no presets") in found.reason


def test_distances_of_different_measurements_are_not_compared(model):
    model.presets = (
        preset(model, 4, 1.0, extractor="mnist"),
        preset(model, 6, 5.2),
        preset(model, 8, 5.0),
    )
    assert plan(model, 64, quality="best").steps == 8
    assert plan(model, 64, quality="fast").steps == 6
    assert plan(model, 64, seconds=2.6, costs=COSTS).steps == 6


def test_sampling_with_the_options_takes_the_preset(tuned):
    found = plan(tuned, 3, quality="best")
    images = tuned.sample(3, **found.options(), progress=False)
    same = tuned.sample(3, sampler="ddim", spacing=tuned.presets[-1].times, progress=False)
    assert torch.equal(images, same)


class Timed(torch.nn.Module):
    """A network that moves a clock by 0.02 s a call and 0.01 s an image, and counts the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.now, self.sizes = 0.0, Counter()

    def forward(self, x, t, label):
        self.now += 0.02 + 0.01 * len(x)
        self.sizes[len(x)] += 1
        return torch.zeros_like(x)


@pytest.fixture
def timed(monkeypatch):
    network = Timed()
    monkeypatch.setattr(planner, "time", SimpleNamespace(perf_counter=lambda: network.now))
    return Denoiser(network, schedule.linear(), "x0", shape=(1, 8, 8), classes=4)


@pytest.mark.parametrize("count", [1, 3, 64, 100, 1000])
def test_a_call_is_measured_at_two_sizes_of_batch(timed, count):
    large = min(count, 64)
    costs = measure(timed, count)
    assert [cost.size for cost in costs] == sorted({math.ceil(large / 4), large})
    assert [cost.call for cost in costs] == [pytest.approx(0.02 + 0.01 * cost.size) for cost in costs]
    assert [cost.once for cost in costs] == [pytest.approx(0, abs=1e-9)] * len(costs)
    assert all(timed.network.sizes[count % cost.size] for cost in costs if count % cost.size)  # each is warmed up


def test_a_guided_call_is_measured(timed):
    """By the null class it is one call of twice the batch, by a weak model it is two calls."""
    assert measure(timed, 64, guidance=2.0)[-1].guided == pytest.approx(0.02 + 0.01 * 128)
    assert measure(timed, 64, guidance=2.0, weak=timed)[-1].guided == pytest.approx(2 * (0.02 + 0.01 * 64))


@pytest.mark.parametrize("count", [1, 16, 64, 100, 1000])
@pytest.mark.parametrize("options", [{}, {"guidance": 2.0}, {"guidance": 2.0, "guidance_interval": (0.3, 5.0)}])
def test_the_time_is_kept(timed, count, options):
    """In seconds of the network's clock: a tenth is kept in reserve, and one more step would exceed that."""
    seconds = 0.2 * count + 3
    found = plan(timed, count, seconds=seconds, **options)
    before = timed.network.now
    timed.sample(count, **found.options(), **options, progress=False)
    took = timed.network.now - before
    assert took == pytest.approx(found.seconds, rel=1e-6)
    assert 0.75 * seconds < took < seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of the two"),
        ({"seconds": 1, "quality": "best"}, "give one of the two"),
        ({"seconds": 0}, "seconds must be a number above 0; got 0"),
        ({"seconds": -1}, "above 0; got -1"),
        ({"seconds": math.nan}, "above 0; got nan"),
        ({"seconds": math.inf}, "above 0; got inf"),
        ({"seconds": "5"}, "above 0; got '5'"),
        ({"quality": "good"}, "no quality 'good'; choose best or fast"),
        ({"quality": 1}, "choose best or fast"),
        ({"seconds": 1, "count": 0}, "count must be"),
        ({"seconds": 1, "costs": []}, "one or more"),
        ({"seconds": 1, "costs": [Cost(0, 1.0)]}, "at least 1 image"),
        ({"seconds": 1, "guidance": 2.0, "guidance_interval": (5, 1)}, "guidance interval"),
        ({"seconds": 1, "guidance": 2.0}, "guidance must be 1 for a model without classes"),
    ],
)
def test_bad_input_is_refused(model, options, message):
    with pytest.raises(UserError, match=message):
        plan(model, options.pop("count", 4), **options)
