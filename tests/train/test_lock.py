"""One training in a folder at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddim.cli import main
from ddim.data.images import Images
from ddim.errors import UserError
from ddim.train import checkpoints, fit
from ddim.train.guards import exclusive

HOLD = "import sys, time, pathlib; from ddim.train.guards import exclusive\n"
HOLD += "with exclusive(pathlib.Path(sys.argv[1]), True): print('held', flush=True); sys.stdin.read()"


IMAGES = Images(torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8), torch.zeros(40).long(), ("a",), "few")


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: IMAGES)


def go(folder, *words):
    quick = ["--network", "plain", "--size", "tiny", "--steps", "3", "--batch-size", "4", "--device", "cpu"]
    main(["train", *quick, "--out", str(folder), *words])


def refused(capsys, folder, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        go(folder, *words)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.count("\n") == 1
    return said


def look(folder):
    """Every file of a run but the lock, with its content and the time at which it was written."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock of the folder `run` until its standard input ends."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_folder_with_a_holder_is_refused_until_it_is_dead(tmp_path, capsys, holder):
    """Whatever is asked for, nothing is changed or deleted; after SIGKILL there is nothing to clean up by hand."""
    run = tmp_path / "run"
    assert "Another process is training in" in refused(capsys, run)
    assert "Another process is training in" in refused(capsys, run, "--resume")
    (run / "samples").mkdir()
    for name in ("config.json", "model.safetensors", "metrics.jsonl", "samples/step-1.png", "report.html"):
        (run / name).write_text("{}")
    before = look(run)
    assert len(before) == 5
    assert "Another process is training in" in refused(capsys, run, "--overwrite")
    assert "holds a config.json already" in refused(capsys, run)
    assert look(run) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    go(run, "--overwrite")
    assert checkpoints.newest(run) == 3
    assert not (run / ".lock").exists()


def test_a_holder_that_has_come_to_its_end_leaves_the_folder(tmp_path, holder):
    holder.communicate("")
    assert os.listdir(tmp_path) == []
    with exclusive(tmp_path / "run", True):
        assert os.listdir(tmp_path / "run") == [".lock"]


SECOND = """
import sys
sys.path.insert(0, sys.argv[2])
import test_lock
from ddim.train import run

run.open_images = lambda *_, **__: test_lock.IMAGES
for word in ("--resume", "--overwrite"):
    try:
        test_lock.go(sys.argv[1], word)
    except SystemExit as end:
        print(end.code)
"""


@pytest.mark.slow
def test_the_first_goes_on_unharmed(tmp_path, monkeypatch):
    """A second process comes along in the middle of a training; what the first makes is what it makes alone."""
    go(tmp_path / "alone")
    done = []

    def meanwhile(*args, **kwargs):
        for now in fit(*args, **kwargs):
            yield now
            if now.step == 2:
                before = look(tmp_path / "run")
                words = [sys.executable, "-c", SECOND, str(tmp_path / "run"), str(Path(__file__).parent)]
                done.append(subprocess.run(words, capture_output=True, text=True, check=False))
                assert look(tmp_path / "run") == before

    monkeypatch.setattr("ddim.train.run.fit", meanwhile)
    go(tmp_path / "run")
    assert done[0].stdout == "2\n2\n"
    assert done[0].stderr.count("Another process is training in") == 2
    assert done[0].stderr.count("\n") == 2
    tensors, others = (checkpoints.read(tmp_path / name, 3)[0] for name in ("run", "alone"))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_processes_that_do_not_write_hold_nothing(tmp_path, holder):
    with exclusive(tmp_path / "run", False), exclusive(tmp_path / "other", False):
        assert not (tmp_path / "other").exists()


def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise UserError("There are no images.")

    monkeypatch.setattr("ddim.train.run.open_images", fail)
    assert refused(capsys, tmp_path / "runs" / "a" / "b") == "ddim: There are no images.\n"
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    refused(capsys, tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]


def test_a_folder_that_is_given_up_can_be_had_by_who_waited(tmp_path):
    """An holder removes its lock when it goes; that someone had it open does not keep the next one out, or in."""
    run = tmp_path / "run"
    with exclusive(run, True):
        (run / "config.json").write_text("")
        old = os.open(run / ".lock", os.O_RDWR)
    with exclusive(run, True), pytest.raises(UserError, match="Another process"), exclusive(run, True):
        pass
    os.close(old)
    assert os.listdir(run) == ["config.json"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 5000), Path("/proc/run")):
        with pytest.raises(UserError, match="Could not write"), exclusive(folder, True):
            pass
    assert os.listdir(tmp_path) == ["file"]
