"""What the trackers are told is what the metrics say."""

import json

import pytest

from ddim.errors import UserError
from ddim.train import Plan, Recipe
from ddim.train.distributed import Distributed
from ddim.train.run import train


def test_tensorboard_shows_the_metrics(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plan = Plan(steps=3, batch_size=4)
    train(Recipe(network="plain", size="tiny", plan=plan), tmp_path / "run", trackers=["tensorboard"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (events,) = (tmp_path / "run" / "tracked").glob("events*")
    shown = reading.EventAccumulator(str(events)).Reload()
    for name in ("loss", "held_out", "train"):
        told = [(event.step, event.value) for event in shown.Scalars(name)]
        assert told == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]


def test_a_tracker_that_cannot_start_is_one_sentence_and_nothing_is_begun(tmp_path, monkeypatch):
    """As W&B without a key; and the same training without it begins in the folder."""
    pytest.importorskip("tensorboard")

    def fail(*_):
        raise ValueError("No API key configured.\nUse `wandb login` to log in")

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", fail)
    recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=1, batch_size=4))
    with pytest.raises(UserError, match=r"^tensorboard could not start: No API key configured; leave out --track\.$"):
        train(recipe, tmp_path / "run", trackers=["tensorboard"])
    assert list(tmp_path.iterdir()) == []
    train(recipe, tmp_path / "run")


def test_paths_that_are_not_utf8_reach_trackers_escaped(monkeypatch):
    pytest.importorskip("tensorboard")
    told = []
    monkeypatch.setattr("accelerate.Accelerator.init_trackers", lambda self, *words: told.append(words))
    Distributed("cpu", ["tensorboard"], "run").start_trackers("tracked", {"data": "caf\udce9", "steps": 3})
    assert told == [("tracked", {"data": "caf\\udce9", "steps": 3})]
