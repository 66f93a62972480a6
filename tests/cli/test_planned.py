"""`ddim sample --seconds` and `--quality`: what is chosen, said and recorded, and what is refused."""

import json
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused

import ddim
from ddim import model_io, nets, planner, schedule
from ddim.cli import drawing, main
from ddim.denoiser import Denoiser
from ddim.pictures import read_settings
from ddim.planner import Cost
from ddim.presets import Preset, digest


def preset(model, calls, distance):
    return Preset(
        sampler="ddim",
        times=tuple(20.0 * (calls - i) / calls for i in range(calls)),
        found="searched",
        calls=calls,
        weights=digest(model.network),
        distance=distance,
        plain=20.0,
        ddim=30.0,
        best_plain="unipc, log-snr",
        extractor="scattering",
        reference="2000 images of digits",
        count=300,
    )


@pytest.fixture(params=[True, False], ids=["tuned", "untuned"])
def run(request, tmp_path):
    """A run of a model with T = 20, with presets of 3 and 6 calls or without presets."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", 4, widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = Denoiser(network, schedule.linear(T=20), shape=(1, 8, 8), classes=4).eval()
    model.presets = (preset(model, 3, 2.1), preset(model, 6, 2.0)) if request.param else ()
    model_io.save(model, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def is_tuned(run):
    return bool(model_io.load(run).presets)


def sample(folder, *words):
    main(["sample", str(folder), "--device", "cpu", *map(str, words)])


class Content(NamedTuple):
    images: Any  # (N, H, W) uint8
    settings: dict[str, Any]


def content(out):
    """What was written to a folder or an array."""
    if out.is_dir():
        paths = sorted(out.iterdir())
        return Content(np.stack([np.array(Image.open(path)) for path in paths]), read_settings(paths[-1]) or {})
    if out.suffix == ".npy":
        return Content(np.load(out)[..., 0], json.loads(out.with_name(f"{out.name}.json").read_text()))
    with np.load(out) as file:
        return Content(file["arr_0"][..., 0], json.loads(str(file["settings"])))


def test_ample_time_draws_the_best(run, is_tuned, capsys):
    sample(run, "--seconds", 1000, "--count", 5)
    said = capsys.readouterr()
    name = "seed0-preset6-5images.png" if is_tuned else "seed0-5images.png"
    assert said.out == f"5 images in {run / 'samples' / name} (torch fp32).\n"
    planned, took = said.err.splitlines()
    assert planned.startswith("Plan: the preset of 6 network calls" if is_tuned else "Plan: unipc, log-snr, 20 steps")
    assert "5 images in batches of" in planned
    assert planned.endswith(" of the 1000 seconds, after loading.")
    assert took.startswith("Sampling took ")
    assert took.endswith(" of 1000 seconds.")


def test_no_time_draws_the_least_and_says_so(run, is_tuned, capsys):
    sample(run, "--seconds", 1e-9, "--count", 5, "--out", run / "a.png")
    planned, took = capsys.readouterr().err.splitlines()
    assert planned.startswith("Plan: unipc, log-snr, 1 step, the least, which takes about")
    assert planned.endswith("and not 1e-09 seconds after loading; not even one image would fit.")
    assert took.endswith(" seconds, more than the 1e-09 of --seconds.")
    assert (read_settings(run / "a.png") or {})["steps"] == 1


@pytest.mark.parametrize("quality", ["best", "fast"])
def test_a_quality_takes_a_preset_or_the_default(run, is_tuned, capsys, quality):
    sample(run, "--quality", quality, "--count", 4, "--out", run / "a.png")
    planned = capsys.readouterr().err
    calls = {"best": 6, "fast": 3}[quality]
    settings = read_settings(run / "a.png") or {}
    steps = calls if is_tuned else 20
    assert settings["plan"] == {"quality": quality, "steps": steps, "batch_size": 64, "expected_seconds": None}
    if is_tuned:
        assert planned.startswith(f"Plan: the preset of {calls} network calls (searched)")
        assert settings["preset"]["calls"] == calls
    else:
        why = "the model's default (it has no presets, see `ddim tune`)"
        assert planned == f"Plan: unipc, log-snr, 20 steps, {why}.\n"
        assert (settings["sampler"], settings["steps"]) == ("unipc", 20)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "each"])
def test_many_images_are_those_of_the_python_interface(run, is_tuned, tmp_path, capsys, name):
    out, steps = tmp_path / name, 6 if is_tuned else 20
    sample(run, "--seconds", 1000, "--count", 150, "--out", out)
    assert "150 images in batches of" in capsys.readouterr().err
    found = content(out)
    plan = found.settings["plan"]
    assert (plan["seconds"], plan["steps"]) == (1000, steps)
    assert 0 < plan["expected_seconds"] < 1000
    assert ("preset" in found.settings) == is_tuned
    options: dict[str, Any] = {"steps": steps, "batch_size": plan["batch_size"], "pixels": True, "progress": False}
    assert np.array_equal(found.images, ddim.load(run).sample(150, **options)[:, 0].numpy())
    sample(run, "--steps", steps, "--count", 150, "--out", out)  # the same images without a plan
    assert "Nothing is left to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "each"])
def test_a_repeated_command_continues_with_its_plan(run, tmp_path, capsys, monkeypatch, name):
    """Though the network, measured again, would be too slow for so many calls."""
    out, draw, drawn = tmp_path / name, Denoiser.sample, []

    def stopped(self, *arguments, **options):
        drawn.append(options["batch_size"])
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(self, *arguments, **options)

    monkeypatch.setattr(planner, "measure", lambda *_, **__: [Cost(16, 0.01)])
    monkeypatch.setattr(Denoiser, "sample", stopped)
    with pytest.raises(SystemExit):
        sample(run, "--seconds", 100, "--count", 40, "--out", out)
    assert "16 of 40 images" in capsys.readouterr().err
    monkeypatch.setattr(planner, "measure", lambda *_, **__: [Cost(8, 10.0)])
    sample(run, "--seconds", 100, "--count", 40, "--out", out)
    plan = content(out).settings["plan"]
    said = capsys.readouterr().err.splitlines()[0]
    assert said == f"Plan: the {plan['steps']} steps of the images that are there, in batches of 16."
    assert drawn == [16] * 4
    assert len(content(out).images) == 40


def test_guidance_is_counted(run, is_tuned, capsys):
    sample(run, "--seconds", 1000, "--count", 4, "--guidance", 2)
    assert f"{12 if is_tuned else 40} evaluations of the network with guidance" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", ["--seconds 5", "--quality best"])
@pytest.mark.parametrize(
    "words", ["--steps 8", "--sampler ddim", "--eta 0", "--spacing trailing", "--spacing 9,5", "--batch-size 8"]
)
def test_a_flag_for_what_is_chosen_is_refused(run, capsys, chosen, words):
    said = refused(capsys, "sample", run, *chosen.split(), *words.split())
    first, second = words.split()[0], chosen.split()[0]
    assert said == f"ddim: {first} contradicts {second}, which chooses it; leave out one of them.\n"
    assert not (run / "samples").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seconds 5 --quality best", "--seconds and --quality both choose"),
        ("--seconds 0", "seconds must be a number above 0; got 0.0"),
        ("--seconds -1", "got -1.0"),
        ("--seconds nan", "got nan"),
        ("--seconds inf", "got inf"),
        ("--seconds 5 --count 0", "at least 1 image"),
        ("--seconds 5 --count 1000000000", "A grid of 1,000,000,000 images"),
    ],
)
def test_what_cannot_be_is_refused(run, capsys, words, message):
    assert message in refused(capsys, "sample", run, *words.split())
    assert not (run / "samples").exists()


def test_one_process_plans_for_a_time(run, tmp_path, capsys, monkeypatch):
    """Several would measure different times, and share the images."""
    alone = SimpleNamespace(rank=0, device=torch.device("cpu"))
    monkeypatch.setattr(drawing, "connect", lambda _: alone)
    said = refused(capsys, "sample", run, "--seconds", 5, "--out", tmp_path / "gen")
    assert said == "ddim: One process plans for --seconds; leave out torchrun, or give --steps.\n"
    assert not (tmp_path / "gen").exists()
