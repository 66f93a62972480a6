"""The tab Train starts, stops and resumes one training in a folder, and shows what the folder holds."""

import html
import json
import shutil
import time

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from ddim.errors import UserError

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio.train import Trainings, command, runs, watch


@pytest.fixture
def trainings():
    started = Trainings()
    yield started
    started.close()


@pytest.fixture
def watched(tmp_path):
    """The folder of a run with some metrics and samples."""
    folder = tmp_path / "runs" / "some"
    (folder / "samples").mkdir(parents=True)
    lines = [
        {"step": 50 * i, "epoch": float(i), "loss": 1.0 / i, "held_out": 1.1 / i, "train": 0.9 / i} for i in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 2')
    for step in range(0, 300, 10):
        images = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
        save_file({"averaged": images, "latest": images.clone()}, folder / "samples" / f"step-{step:08d}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("", "run", 1, 0, False), "Name what to train on"),
        (("--url=http://x", "run", 1, 0, False), "reads as a flag"),
        (("digits", "", 1, 0, False), "path is empty"),
        (("digits", "run", -1, 0, False), "minutes must be"),
        (("digits", "run", 1, 5000, False), "image size must be"),
        (("digits", "run", 1, 0, True), "no run at"),
    ],
)
def test_what_cannot_be_started_is_refused_in_a_sentence(trainings, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        trainings.start(*arguments)
    assert not list(tmp_path.iterdir())


def test_the_command_is_that_of_the_command_line(tmp_path):
    from ddim.cli import parse

    words = command("digits", tmp_path / "a b", 0.5, 8, False)
    parsed = parse(words[1:])
    assert (parsed.folder, parsed.recipe.plan.minutes, parsed.recipe.image_size) == (tmp_path / "a b", 0.5, 8)
    assert command("ignored", tmp_path / "run", 2, 8, True)[1:] == [
        "train",
        str(tmp_path / "run"),
        "--resume",
        "--minutes=2",
    ]


def test_a_folder_in_which_another_process_trains_is_left_alone(trainings, tmp_path):
    with FileLock(tmp_path / ".lock"):
        with pytest.raises(UserError, match="A training runs in"):
            trainings.start("digits", str(tmp_path), 1, 0, False)
        with pytest.raises(UserError, match="was started elsewhere"):
            trainings.stop(str(tmp_path))
        assert "Another process trains in" in trainings.state(tmp_path)
    with pytest.raises(UserError, match="does not run"):
        trainings.stop(str(tmp_path))


def test_a_run_is_shown_with_its_whole_lines_and_few_of_its_samples(trainings, watched):
    page = watch(trainings, str(watched))
    assert "No training runs in" in page.state
    assert page.losses.count("<polyline") == 3
    assert "Step 150, epoch 3." in page.losses
    (watched / "config.json").write_text(json.dumps({"recipe": {"plan": {"weighting": "min-snr"}}}))
    assert "training loss" in page.losses
    assert "training loss" not in watch(trainings, str(watched)).losses  # a weighted loss is another quantity
    assert page.frames == page.samples.count("<img") == 10
    assert "samples at step 0" in page.samples
    assert "samples at step 290" in page.samples
    assert "The doctor cannot read the run yet: " in page.findings


def test_the_doctor_is_asked_again_once_the_run_has_changed(trainings, run_folder):
    from ddim import doctor
    from ddim import run_folder as folders

    before = watch(trainings, str(run_folder)).findings
    assert [one.subject in before for one in doctor.examine(folders.read(run_folder))] == [True] * len(doctor.findings)
    lines = [
        {"step": 100 * i, "epoch": float(i), "loss": 1 / i, "held_out": 2.0 + i, "train": 1 / i} for i in range(1, 9)
    ]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    after = watch(trainings, str(run_folder)).findings
    assert after != before
    for one in doctor.examine(folders.read(run_folder)):
        assert html.escape(f"{one.evidence} {one.advice}") in after


def test_a_run_that_vanishes_is_a_sentence(trainings, watched):
    shutil.rmtree(watched)
    state, *others = watch(trainings, str(watched))
    assert "has vanished" in state
    assert others == ["", "", "", 0]


def test_runs_of_the_folder_and_those_given_can_be_chosen(watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs(["mnist", str(watched)]) == [str(watched), "runs/some"]


@pytest.mark.slow  # it starts three processes
def test_a_training_is_stopped_whole_and_resumed(trainings, tmp_path):
    folder = trainings.start("digits", str(tmp_path / "run"), 1, 0, False)
    with pytest.raises(UserError, match="A training runs in"):
        trainings.start("digits", str(folder), 1, 0, False)
    while not (folder / "config.json").exists():
        assert trainings.running(folder), trainings.state(folder)
        time.sleep(0.1)
    trainings.stop(str(folder))
    while trainings.running(folder):
        time.sleep(0.1)
    assert "can be resumed" in trainings.state(folder)
    trainings.start("digits", str(folder), 1, 0, True)
    assert trainings.running(folder)
    trainings.close()
    assert not trainings.running(folder)
    failed = trainings.start("nothing", str(tmp_path / "other"), 1, 0, False)
    while trainings.running(failed):
        time.sleep(0.1)
    assert "no data set called 'nothing'" in trainings.state(failed)
