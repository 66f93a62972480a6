"""What the trackers are told is what the metrics say."""

import json

import pytest

from ddim.train import Plan, Recipe
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
