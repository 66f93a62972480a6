"""To be asked to stop is to save and leave."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddim.cli import main
from ddim.data.images import Images
from ddim.model_io import read_config
from ddim.train import Plan, Recipe, checkpoints, fit
from ddim.train import recipe as recipes
from ddim.train.guards import interruptible
from ddim.train.run import train

pytestmark = pytest.mark.slow

SENTENCE = "ddim: Interrupted. No file is left incomplete; a training run continues with --resume.\n"


IMAGES = Images(torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8), torch.zeros(40).long(), ("a",), "few")


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: IMAGES)


COMMAND = """
import sys
sys.path.insert(0, sys.argv[1])
import test_signals as here
from ddim.train import run

run.open_images = lambda *_, **__: here.IMAGES
here.main(sys.argv[2:])
"""


def test_the_command_saves_and_leaves(tmp_path, images):
    """Exit code 130 and one sentence, twice; the run goes on to the weights of one that nobody has interrupted."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [sys.executable, "-c", COMMAND, str(Path(__file__).parent), "train", "digits", "--network", "plain"]
    words += ["--size", "tiny", "--device", "cpu", "--steps", "5000", "--batch-size", "8", "--save-every", "0.1"]
    words += ["--out", str(run), "--resume"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # bits depend on it
    step = 0
    for kind in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | threads) as process:
            deadline = time.monotonic() + 300
            while max(checkpoints.steps(run), default=0) <= step:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(kind)
            said = process.stderr.read()
        assert process.returncode == 130
        assert f"continue with: ddim train {run} --resume\n{SENTENCE}" in said
        step = checkpoints.newest(run)
    assert step < 5000
    recipe = recipes.of_run(run)
    for folder in (run, whole):
        train(replace(recipe, plan=replace(recipe.plan, steps=step + 2)), folder, device="cpu", resume=True)
    tensors, others = (checkpoints.read(folder, step + 2)[0] for folder in (run, whole))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


# In this process


def go(folder, *words):
    quick = ["--network", "plain", "--size", "tiny", "--steps", "3", "--batch-size", "4", "--device", "cpu"]
    main(["train", *quick, "--out", str(folder), *words])


def interrupted(capsys, folder):
    """What a training says that ends because it was asked to."""
    with pytest.raises(SystemExit) as end:
        go(folder)
    assert end.value.code == 130
    return capsys.readouterr().err


def asking(steps, kind=signal.SIGINT):
    """`fit`, during which this process is sent a signal after certain steps."""

    def asked(*args, **kwargs):
        for now in fit(*args, **kwargs):
            yield now
            if now.step in steps:
                os.kill(os.getpid(), kind)

    return asked


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_update_under_way_is_the_last(tmp_path, monkeypatch, capsys, images, kind):
    monkeypatch.setattr("ddim.train.run.fit", asking([1], kind))
    assert interrupted(capsys, tmp_path).endswith(SENTENCE)
    assert checkpoints.newest(tmp_path) == 2


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 3])
def test_a_signal_in_or_after_the_last_update_ends_a_complete_run(tmp_path, monkeypatch, capsys, images, step, kind):
    """Nothing that follows the training begins, e.g. the experiments of `reproduce`; the run is complete."""
    monkeypatch.setattr("ddim.train.run.fit", asking([step], kind))
    assert interrupted(capsys, tmp_path).endswith(SENTENCE)
    assert checkpoints.newest(tmp_path) == 3
    assert read_config(tmp_path)["finished"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_reproduce_ends_with_a_training_that_was_asked_to(tmp_path, monkeypatch, capsys, images, kind):
    """This includes a signal during the final save, when only the experiments remain."""
    monkeypatch.setattr("ddim.train.run.fit", asking([3], kind))
    monkeypatch.setattr("ddim.experiments.run", lambda *_, **__: pytest.fail("the experiments began"))
    (tmp_path / "few.toml").write_text('network = "plain"\nsize = "tiny"\n[plan]\nsteps = 3\nbatch_size = 4\n')
    with pytest.raises(SystemExit) as end:
        main(["reproduce", str(tmp_path / "few.toml"), "--device", "cpu", "--out", str(tmp_path / "run")])
    assert end.value.code == 130
    assert capsys.readouterr().err.endswith(SENTENCE)
    assert read_config(tmp_path / "run")["finished"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_before_training_there_is_nothing_to_wait_for(tmp_path, monkeypatch, capsys, kind):
    """While images are downloaded, a signal ends the command at once, and no folder is left."""

    def slow(*_, **__):
        os.kill(os.getpid(), kind)
        time.sleep(60)

    monkeypatch.setattr("ddim.train.run.open_images", slow)
    began = time.monotonic()
    assert interrupted(capsys, tmp_path / "run") == SENTENCE
    assert time.monotonic() - began < 30
    assert os.listdir(tmp_path) == []


def test_a_signal_is_remembered_and_the_handlers_come_back():
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with interruptible() as asked:
        assert not asked()
        for _ in range(3):  # torchrun passes on what its processes saw already
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_later_on_does_not_wait(monkeypatch):
    monkeypatch.setattr("ddim.train.guards.PATIENCE", 0.0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_trains_without_handlers(tmp_path, images):
    """Python allows them in the main thread alone; a notebook's or a server's thread can train all the same."""
    before = signal.getsignal(signal.SIGINT)
    failures = []

    def work():
        try:
            recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=2, batch_size=4))
            train(recipe, tmp_path, device="cpu")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) == before
    assert checkpoints.newest(tmp_path) == 2
