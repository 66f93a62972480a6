"""Guidance in a preset: what it makes, what it saves, and what a request changes of it."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from ddim import model_io, nets, planner, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.planner import Cost
from ddim.presets import Method, Preset, digest
from ddim.sampling import Sampling

S = schedule.linear(T=20)
TIMES = (20.0, 14.0, 9.0, 5.0, 2.0, 1.0)
INTERVAL = (0.1, 0.4)  # sigma / alpha of TIMES falls from 0.49 to 0.01


def preset(model, **changes):
    facts = {
        "sampler": "ddim",
        "times": TIMES,
        "guidance": 1.5,
        "found": "ddim, linear",
        "calls": 12,
        "weights": digest(model.network),
        "distance": 1.0,
        "plain": 2.0,
        "ddim": 3.0,
        "best_plain": "ddim, linear",
        "extractor": "scattering",
        "reference": "300 samples of the teacher",
        "count": 300,
    }
    return Preset(**{**facts, **changes})


def evaluations(model, **options):
    """How often the network is evaluated for an image, counted in the rows of its batches."""
    rows = Counter()
    hook = model.network.register_forward_pre_hook(lambda _, given: rows.update(images=len(given[0])))
    model.sample(4, progress=False, **options)
    hook.remove()
    return rows["images"] / 4


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", 4, widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Denoiser(network, S, shape=(1, 8, 8), classes=4, sampling=Sampling(steps=12)).eval()


def images(model, **options):
    return model.sample(4, progress=False, **options)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "unipc", "heun", "pndm", "dpm-2"])
@pytest.mark.parametrize("interval", [None, INTERVAL, (0.0, 0.3), (0.2, 5.0)])
def test_a_guided_preset_makes_exactly_its_number_of_evaluations(model, sampler, interval):
    made = Method(sampler=sampler, times=TIMES, guidance=1.5, guidance_interval=interval)
    calls = made.evaluations(S)
    model.presets = (preset(model, sampler=sampler, guidance_interval=interval, calls=calls),)
    model.presets[0].check(S, model.classes)
    assert evaluations(model, steps=calls) == calls
    plain, guided = made.network_calls(S)
    assert guided > 0
    assert (plain > 0) == (interval is not None)


def test_a_guided_preset_is_used_with_its_guidance_by_default(model):
    plain = images(model, sampler="ddim", spacing=TIMES)
    by_hand = images(model, sampler="ddim", spacing=TIMES, guidance=1.5, guidance_interval=INTERVAL)
    calls = replace(preset(model), guidance_interval=INTERVAL).evaluations(S)
    model.presets = (preset(model, guidance_interval=INTERVAL, calls=calls),)
    model.sampling = Sampling(steps=calls)
    assert torch.equal(images(model), by_hand)
    assert torch.equal(images(model, guidance=1.0), plain)
    assert not torch.equal(by_hand, plain)
    assert model.describe_sampling() == (
        f"preset of {calls} network calls (ddim, linear, 6 steps, guidance 1.5 at sigma / alpha from 0.1 to 0.4)"
    )
    assert model.describe_sampling(guided=False) == f"preset of {calls} network calls (ddim, linear, 6 steps)"


@pytest.mark.parametrize("interval", [None, (0.1, 0.3)])
def test_another_guidance_keeps_the_solver_and_the_times(model, interval):
    options = {"guidance": 3.0, "guidance_interval": interval}
    by_hand = images(model, sampler="ddim", spacing=TIMES, **options)
    model.presets = (preset(model),)
    assert torch.equal(images(model, steps=12, **options), by_hand)


def test_an_interval_or_a_weak_model_without_a_weight_turns_the_guidance_of_a_preset_off(model):
    plain = images(model, sampler="ddim", spacing=TIMES)
    model.presets = (preset(model),)
    assert torch.equal(images(model, steps=12, guidance_interval=INTERVAL), plain)
    assert torch.equal(images(model, steps=12, weak=model.with_network(model.network)), plain)


def test_a_guidance_of_1_is_the_plain_method_bit_for_bit(model):
    plain = preset(model, guidance=1.0, calls=6)
    assert not plain.tuned
    assert plain.text() == "ddim, linear"
    by_hand = images(model, sampler="ddim", spacing=TIMES)
    for interval in (None, INTERVAL):
        model.presets = (replace(plain, guidance_interval=interval),)
        model.presets[0].check(S, model.classes)
        assert evaluations(model, steps=6) == 6
        assert torch.equal(images(model, steps=6), by_hand)


@pytest.mark.parametrize("interval", [None, INTERVAL])
def test_guidance_is_saved_and_loaded(model, tmp_path, interval):
    calls = replace(preset(model), guidance_interval=interval).evaluations(S)
    model.presets = (preset(model, guidance_interval=interval, calls=calls),)
    model_io.save(model, tmp_path)
    loaded = model_io.load(tmp_path)
    assert loaded.presets == model.presets
    assert loaded.presets[0].tuned
    assert torch.equal(images(loaded, steps=calls), images(model, steps=calls))


def test_a_config_without_the_entries_of_guidance_loads(model, tmp_path):
    model.presets = (preset(model, guidance=1.0, calls=6),)
    model_io.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("guidance", "guidance_interval"):
        del config["presets"][0][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_io.load(tmp_path).presets == model.presets


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"guidance": 1.0}, "of 12 network calls makes 6"),
        ({"guidance": 1e9}, "guidance of a preset must be"),
        ({"guidance": None}, "guidance"),
        ({"guidance_interval": [0.1, 0.4]}, "of 12 network calls makes 9"),
        ({"guidance_interval": [5, 0.3]}, "guidance interval"),
        ({"guidance_interval": [0.3]}, "guidance_interval"),
        ({"guidance_interval": [0.3, float("inf")]}, "guidance interval"),
        ({"classes": None}, "has no classes"),
    ],
    ids=str,
)
def test_a_guidance_that_does_not_fit_is_refused(model, tmp_path, change, said):
    model.presets = (preset(model),)
    model_io.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if "classes" in change:
        config["classes"] = config["network"]["classes"] = None
    else:
        config["presets"][0].update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        model_io.load(tmp_path)


def test_the_planner_counts_the_evaluations_of_a_guided_preset(model):
    calls = replace(preset(model), guidance_interval=INTERVAL).evaluations(S)
    model.presets = (
        preset(model, guidance_interval=INTERVAL, calls=calls, distance=1.0),
        preset(model, guidance=1.0, calls=6, distance=2.0),
    )
    costs = [Cost(64, 1.0)]
    found = planner.plan(model, 64, seconds=100, costs=costs)
    assert found.steps == calls
    assert found.calls.plain + 2 * found.calls.guided == calls
    assert found.seconds == pytest.approx(calls)
    assert planner.plan(model, 64, seconds=calls / 0.9 - 0.1, costs=costs).steps == 6
    everywhere = planner.plan(model, 64, seconds=100, costs=costs, guidance=2.0)
    assert (everywhere.steps, list(everywhere.calls)) == (calls, [0, 6])
    off = planner.plan(model, 64, seconds=100, costs=costs, guidance=1.0)
    assert (off.steps, list(off.calls)) == (calls, [6, 0])
