"""`ddim sample` and `ddim evaluate` with an interval of guidance, and with an earlier checkpoint as the weak model."""

import json
import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from refusal import refused

import ddim
from ddim import model_io
from ddim.cli import main
from ddim.cli.guidance import GuidanceFlags
from ddim.cli.tune import keep
from ddim.loading import SHIPPED
from ddim.pictures import read_settings
from ddim.presets import Preset, digest
from ddim.train import Plan, Recipe, checkpoints, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny trained run with classes and its checkpoints, which are of the steps 0, 1, 3, 7, 15, 19 and 20."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    plan = Plan(steps=20, batch_size=16, learning_rate=5e-3)
    train(Recipe(network="plain", size="tiny", conditional=True, plan=plan), folder, device="cpu", save_every=1e-9)
    assert checkpoints.steps(folder) == [0, 1, 3, 7, 15, 19, 20]
    return folder


def sample(folder, *words):
    main(["sample", str(folder), "--device", "cpu", "--steps", "3", "--count", "4", *map(str, words)])


def array(path):
    return torch.from_numpy(np.load(path))[..., 0]


@pytest.mark.parametrize(
    ("words", "name", "settings"),
    [
        ("--guidance 2 --guidance-interval 0.3 5", "guidance2-interval0.3-5", {"guidance_interval": [0.3, 5.0]}),
        ("--guidance 2 --guidance-interval 0.3 inf", "guidance2-interval0.3-inf", {"guidance_interval": [0.3, "inf"]}),
        ("--autoguide 3 --weight 2", "autoguide3-weight2", {"autoguide": 3, "weight": 2.0}),
        (
            "--autoguide 3 --weight 2 --guidance-interval 0.3 5",
            "interval0.3-5-autoguide3-weight2",
            {"autoguide": 3, "weight": 2.0, "guidance_interval": [0.3, 5.0]},
        ),
    ],
)
def test_a_grid_is_named_after_its_guidance_and_holds_it(run, words, name, settings):
    sample(run, *words.split())
    found = read_settings(run / "samples" / f"seed0-3steps-{name}-4images.png")
    assert found is not None
    assert {key: found[key] for key in settings} == settings
    assert found["guidance"] == (2.0 if "--guidance " in words else 1.0)
    weak = None if "autoguide" not in settings else model_io.fingerprint(checkpoints.path_of(run, 3))
    assert found.get("weak_weights") == weak != found["weights"]


def test_the_images_are_those_of_the_python_interface(run, tmp_path):
    model, weak = ddim.load(run, backend="torch"), ddim.load(run, checkpoint=7, backend="torch")
    words = ("--autoguide", 7, "--weight", 3, "--guidance-interval", 0.5, 30)
    sample(run, *words, "--out", tmp_path / "weak.npy")
    options: dict[str, Any] = {"guidance_interval": (0.5, 30.0), "steps": 3, "pixels": True, "progress": False}
    same = model.sample(4, guidance=3.0, weak=weak, **options)
    assert torch.equal(array(tmp_path / "weak.npy"), same[:, 0])
    sample(run, "--guidance", 3, "--guidance-interval", 0.5, 30, "--out", tmp_path / "free.npy")
    assert torch.equal(array(tmp_path / "free.npy"), model.sample(4, guidance=3.0, **options)[:, 0])
    plain = model.sample(4, steps=3, pixels=True, progress=False)[:, 0]
    for name in ("weak", "free"):
        assert not torch.equal(array(tmp_path / f"{name}.npy"), plain)


def test_raw_weights_are_guided_by_raw_weights_of_an_earlier_checkpoint(run, tmp_path):
    sample(run, "--checkpoint", 15, "--raw", "--autoguide", 7, "--weight", 1.5, "--out", tmp_path / "raw.npy")
    strong, weak = (ddim.load(run, checkpoint=step, raw=True, backend="torch") for step in (15, 7))
    averaged = ddim.load(run, checkpoint=7, backend="torch")
    options: dict[str, Any] = {"guidance": 1.5, "steps": 3, "progress": False}
    same = strong.sample(4, weak=weak, pixels=True, **options)
    assert torch.equal(array(tmp_path / "raw.npy"), same[:, 0])
    one, other = (strong.sample(4, weak=guide, clip=False, **options) for guide in (weak, averaged))
    assert not torch.equal(one, other)  # clipped, they may all be black or white


def test_images_of_two_guidances_are_not_mixed_in_a_folder(run, tmp_path, capsys):
    words = ("sample", run, "--device", "cpu", "--steps", 1, "--count", 1, "--out", tmp_path / "gen")
    main([*map(str, words), "--autoguide", "3", "--weight", "2"])
    for other in ("--autoguide 3 --weight 1.5", "--autoguide 1 --weight 2", "", "--guidance 2"):
        assert "with other settings" in refused(capsys, *words, *other.split())
    assert os.listdir(tmp_path / "gen") == ["000000.png"]


def test_evaluate_records_the_guidance(run, tmp_path):
    where = ("--device", "cpu", "--count", "70", "--steps", "2", "--out", str(tmp_path))
    for words, said in (
        ("--guidance 2 --guidance-interval 0.3 200", "guidance 2 at sigma / alpha from 0.3 to 200"),
        ("--autoguide 1 --weight 1.5", "autoguidance by step 1, weight 1.5"),
    ):
        main(["evaluate", str(run), *where, *words.split()])
        facts = json.loads((tmp_path / "evaluation.json").read_text())
        assert facts["sampling"] == f"unipc, log-snr, 2 steps, {said}"


@pytest.fixture
def tuned(run):
    """The run with a guided preset of 3 steps, of which the first and the last are not guided."""
    before, model = (run / "config.json").read_bytes(), ddim.load(run, backend="torch")
    preset = Preset(
        sampler="ddim",
        times=(1000.0, 300.0, 30.0),
        guidance=1.5,
        guidance_interval=(0.3, 5.0),
        found="ddim, linear",
        calls=4,
        weights=digest(model.network),
        distance=1.0,
        plain=2.0,
        ddim=2.0,
        best_plain="ddim, linear",
        extractor="digits",
        reference="297 images of digits",
        count=300,
    )
    keep(run, [preset])
    yield run
    (run / "config.json").write_bytes(before)


@pytest.mark.parametrize(
    ("words", "name", "settings"),
    [
        ("", "", {"guidance": 1.5, "guidance_interval": [0.3, 5.0]}),
        ("--guidance 1.5", "-guidance1.5", {"guidance": 1.5}),
        ("--guidance 1.5 --guidance-interval 0.3 5", "", {"guidance": 1.5, "guidance_interval": [0.3, 5.0]}),
        ("--guidance 1", "-guidance1", {"guidance": 1.0}),
        ("--autoguide 3 --weight 2", "-autoguide3-weight2", {"guidance": 1.0, "autoguide": 3, "weight": 2.0}),
    ],
)
def test_a_picture_of_a_guided_preset_holds_the_guidance_in_fact_used(tuned, words, name, settings):
    main(["sample", str(tuned), "--device", "cpu", "--steps", "4", "--count", "4", *words.split()])
    found = read_settings(tuned / "samples" / f"seed0-preset4{name}-4images.png") or {}
    guidance = {"guidance", "guidance_interval", "autoguide", "weight"}
    assert {key: value for key, value in found.items() if key in guidance} == settings
    assert (found["preset"]["calls"], found["spacing"]) == (4, [1000.0, 300.0, 30.0])


def test_images_of_a_guided_preset_are_those_of_the_python_interface_and_continue(tuned, tmp_path, capsys):
    words = ["sample", str(tuned), "--device", "cpu", "--steps", "4", "--count", "4", "--out"]
    ways: list[tuple[str, list[str], dict[str, Any]]] = [
        ("own", [], {}),
        ("off", ["--guidance", "1"], {"guidance": 1.0}),
        ("other", ["--guidance", "3"], {"guidance": 3.0}),
    ]
    for name, more, options in ways:
        out = str(tmp_path / f"{name}.npy")
        main([*words, out, *more])
        same = ddim.load(tuned, backend="torch").sample(4, steps=4, pixels=True, progress=False, **options)
        assert torch.equal(array(out), same[:, 0])
        main([*words, out, *more])
        assert "Nothing is left to do" in capsys.readouterr().out
    main([*words, str(tmp_path / "own.npy"), "--guidance", "1.5", "--guidance-interval", "0.3", "5"])
    assert "Nothing is left to do" in capsys.readouterr().out
    said = refused(capsys, *words, tmp_path / "own.npy", "--guidance", "1.5")
    assert "drawn with guidance_interval = [0.3, 5.0], not None" in said


def test_a_plan_for_a_time_and_its_settings_have_the_guidance_of_the_preset(tuned, tmp_path, capsys):
    words = ["sample", str(tuned), "--device", "cpu", "--seconds", "1000", "--count", "4", "--out"]
    main([*words, str(tmp_path / "a.npy")])
    assert "Plan: the preset of 4 network calls (ddim, linear, 3 steps, guidance 1.5" in capsys.readouterr().err
    settings = json.loads((tmp_path / "a.npy.json").read_text())
    assert (settings["guidance"], settings["plan"]["steps"]) == (1.5, 4)
    main([*words, str(tmp_path / "b.npy"), "--guidance", "2"])
    said = capsys.readouterr().err
    assert "(ddim, linear, 3 steps), 6 evaluations of the network with guidance" in said


def test_evaluate_says_which_guidance_it_measured(tuned, tmp_path):
    where = ("--device", "cpu", "--count", "70", "--steps", "4", "--out", str(tmp_path))
    for words, said in (
        ("", "preset of 4 network calls (ddim, linear, 3 steps, guidance 1.5 at sigma / alpha from 0.3 to 5)"),
        ("--guidance 2", "preset of 4 network calls (ddim, linear, 3 steps), guidance 2"),
        ("--guidance 1", "preset of 4 network calls (ddim, linear, 3 steps)"),
    ):
        main(["evaluate", str(tuned), *where, *words.split()])
        assert json.loads((tmp_path / "evaluation.json").read_text())["sampling"] == said


REFUSED = [
    ("--guidance 2 --guidance-interval 5 0.3", "with 0 <= low < high, e.g. 0.3 and 5; got (5.0, 0.3)"),
    ("--guidance 2 --guidance-interval 1 1", "got (1.0, 1.0)"),
    ("--guidance 2 --guidance-interval -1 1", "got (-1.0, 1.0)"),
    ("--guidance 2 --guidance-interval nan 1", "got (nan, 1.0)"),
    ("--guidance 2 --guidance-interval 200 300", "lies above every noise level of the model"),
    ("--guidance-interval 1 2", "give one of them, too"),
    (
        "--autoguide 2 --weight 2",
        "takes a checkpoint before that of the model, step 20; {run} has 0, 1, 3, 7, 15, 19, and not 2",
    ),
    ("--autoguide 20 --weight 2", "step 20; {run} has 0, 1, 3, 7, 15, 19, and not 20"),
    ("--autoguide 3 --weight 2 --checkpoint 3", "step 3; {run} has 0, 1, and not 3"),
    ("--autoguide 3 --weight 2 --checkpoint 4", "{run} has no checkpoint of step 4; it has 0, 1, 3, 7, 15, 19, 20"),
    ("--autoguide 3", "--autoguide needs --weight W beside it"),
    ("--weight 2", "--weight needs --autoguide STEP beside it"),
    ("--autoguide 3 --weight 2 --guidance 2", "--autoguide from a weak model; give one"),
    ("--autoguide 3 --weight 1e308", "weight must be a number from -1000 to 1000, 1 for none; got 1e+308"),
    ("--autoguide 3 --weight nan", "weight must be a number"),
]


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [("sample", *one) for one in REFUSED]
    + [("evaluate", *one) for one in REFUSED if "--checkpoint" not in one[0]],  # which it does not have
)
def test_what_cannot_be_is_refused_in_one_sentence(run, tmp_path, monkeypatch, capsys, command, words, said):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, command, run, "--device", "cpu", "--out", tmp_path / "new.png", *words.split())
    assert said.format(run=run) in " ".join(message.split())
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_model_without_checkpoints_has_no_weak_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "sample", "mnist", "--autoguide", 1000, "--weight", 2)
    assert f"{SHIPPED / 'mnist'} has no checkpoints, one of which --autoguide needs" in message


def test_a_folder_of_images_is_not_guided(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for flag, value in (("guidance", "2"), ("guidance-interval", "1 2"), ("autoguide", "3"), ("weight", "2")):
        message = refused(capsys, "evaluate", tmp_path / "pictures", f"--{flag}", *value.split())
        assert f"--{flag} is for samples of a model" in message


def test_the_description_names_what_is_given():
    assert GuidanceFlags().describe() == ""
    assert GuidanceFlags(guidance=1.5, guidance_interval=(0.0, math.inf)).describe() == (
        "guidance 1.5 at sigma / alpha from 0 to inf"
    )
