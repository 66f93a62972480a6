"""To be asked to stop is to save and leave."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from ddim.cli import main
from ddim.data.images import Images
from ddim.train import fit, history
from ddim.train import recipe as recipes
from ddim.train.run import train
from ddim.train.signals import interruptible

SENTENCE = "ddim: Interrupted; no file is left half-written, and a training keeps what it has learnt.\n"


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_command_saves_and_leaves(tmp_path, kind):
    """Exit code 130, one sentence, and a run that goes on to the weights of one that nobody interrupted."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [sys.executable, "-m", "ddim", "train", "digits", "--network", "plain", "--steps", "5000", "--device"]
    words += ["cpu", "--batch-size", "8", "--out", str(run)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # bits depend on it
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | threads) as process:
        deadline = time.monotonic() + 300
        while not (run / "samples").exists() or not list((run / "samples").glob("step-*.png")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(kind)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == SENTENCE
    step = history.newest(run)
    assert 0 < step < 5000
    recipe = recipes.of_run(run)
    for folder in (run, whole):
        train(replace(recipe, plan=replace(recipe.plan, steps=step + 2)), folder, device="cpu", resume=True)
    tensors, others = (history.read(folder, step + 2)[0] for folder in (run, whole))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
