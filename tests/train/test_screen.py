"""What a training shows on the screen, or leaves in a log."""

import json
import os
import re
import signal
import time
import warnings
from typing import Any

import pytest
import torch

from ddim import nets, schedule
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice
from ddim.train import Plan, Recipe, fit
from ddim.train.run import train
from ddim.train.screen import Screen

FEW = Images(torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8), torch.zeros(40).long(), ("a",), "few")


@pytest.fixture(autouse=True)
def images(monkeypatch):
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: FEW)


def go(folder, size="tiny", batch_size=4, **limits):
    plan = Plan(batch_size=batch_size, precision="fp32", **limits)
    return train(Recipe(network="plain", size=size, plan=plan), folder, device="cpu", resume=True)


def test_the_first_line_says_what_is_trained(tmp_path, capsys):
    network = go(tmp_path, steps=2).network
    first = capsys.readouterr().err.splitlines()[0]
    weights = sum(weight.numel() for weight in network.parameters())
    assert first == (
        f"ddim: Training plain tiny ({weights:,} parameters) on few (40 images of 1 × 8 × 8), 4 images in each "
        f"update, fp32 on 1 x cpu, until 2 updates, in {tmp_path}."
    )
    go(tmp_path, steps=1000, minutes=0.01)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("ddim: Continuing after 2 updates with plain tiny")
    assert "until 1,000 updates or 0.01 minutes" in first


def test_a_log_has_a_line_with_the_loss_and_the_time_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ddim.progress.FIRST", 0.0)
    monkeypatch.setattr("ddim.progress.LAST", 0.0)
    go(tmp_path, steps=60, batch_size=1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training:")]
    pattern = r"training: \d+/60 step, \d\d:\d\d so far, \d\d:\d\d left, .*loss \d\.\d{4}, \d+ images/s"
    assert re.fullmatch(pattern, lines[-1])


def test_an_interrupt_ends_with_the_command_that_continues(tmp_path, capsys, monkeypatch):
    def asking(*args, **options):
        for now in fit(*args, **options):
            os.kill(os.getpid(), signal.SIGINT)
            yield now

    folder = tmp_path / "my run"
    monkeypatch.setattr("ddim.train.run.fit", asking)
    with pytest.raises(KeyboardInterrupt):
        go(folder, steps=50)
    said = capsys.readouterr().err
    assert f"{folder} holds the model after 2 updates; continue with: ddim train '{folder}' --resume\n" in said
    monkeypatch.undo()
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: FEW)
    go(folder, steps=3)
    assert "continue with" not in capsys.readouterr().err


@pytest.fixture
def estimate(monkeypatch):
    """Estimate the length after the second update."""
    for name in ("ESTIMATE_AFTER", "SHORT"):
        monkeypatch.setattr(f"ddim.train.screen.{name}", 0.0)


def test_the_length_is_said_whatever_ends_the_training(tmp_path, estimate, capsys, monkeypatch):
    every: list[dict[str, Any]] = [{"steps": 4}, {"epochs": 0.4}, {"steps": 4, "minutes": 60}]
    for number, limits in enumerate(every):
        go(tmp_path / str(number), **limits)
        said = re.findall(
            r"At \d+ images/s, training ends after about (\d+) updates, in \d+ .*", capsys.readouterr().err
        )
        assert said == ["4"]
    monkeypatch.setattr("ddim.train.screen.LONG", 0.0)
    go(tmp_path / "long", steps=4)
    assert "You can end it with Ctrl-C at any time" in capsys.readouterr().err


def test_too_few_updates_for_the_time_are_noticed_at_once(tmp_path, estimate, monkeypatch):
    monkeypatch.setattr("ddim.train.screen.FEW", 10**9)
    with pytest.warns(
        Notice, match=r"Only about \d+ updates fit into 0\.01 minutes.*choose more time \(--minutes \d+\)"
    ):
        go(tmp_path / "tiny", minutes=0.01)
    with pytest.warns(Notice, match=r"a smaller network \(--size tiny\) or more time"):
        go(tmp_path / "small", size="small", minutes=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)  # so few are what was asked for
        go(tmp_path / "asked", steps=3, minutes=60)


def test_other_processes_show_nothing(tmp_path, capsys):
    class Second:
        main, processes, device = False, 2, "cpu"

    model = Denoiser(nets.build("plain", 1, "tiny"), schedule.linear(), shape=(1, 8, 8))
    screen = Screen(tmp_path, Recipe(plan=Plan(steps=3)), model, FEW, 0, Second())  # type: ignore[arg-type]
    screen.print("a sentence")
    screen.close(saved=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_evaluation_takes_little_of_a_limit_in_minutes(tmp_path, monkeypatch):
    """On a machine where a network call takes at least 2 ms for each image, of a training of 6 s."""
    seconds = {True: 0.0, False: 0.0}
    output = Denoiser._output

    def slow(self, network, x, at, label):
        seconds[self.network.training] += 0.002 * len(x)
        time.sleep(0.002 * len(x))
        return output(self, network, x, at, label)

    monkeypatch.setattr(Denoiser, "_output", slow)
    go(tmp_path, minutes=0.1, batch_size=16)
    assert seconds[False] < 0.35 * 6  # of which the last line and the last samples are after the 6 s
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines
    assert all(len(line["held_out_by_level"]) == 10 for line in lines)
