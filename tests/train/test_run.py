import json

import pytest
import torch

from ddim import load, open_images
from ddim.errors import UserError
from ddim.train import Plan, Recipe
from ddim.train.guards import Breakdown
from ddim.train.logger import lines_due
from ddim.train.loop import Update, fit
from ddim.train.run import train


def test_a_line_of_metrics_for_each_epoch_that_is_long_enough():
    """Epochs of 100 updates, 30 of them, then epochs of 2."""
    assert [lines_due(step, step / 100, step / 3000) for step in (99, 100, 1000, 3000)] == [0, 1, 10, 30]
    assert [lines_due(step, step / 2, step / 3000) for step in (99, 150, 3000)] == [1, 3, 60]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "steps"),
    [
        (Plan(epochs=22, batch_size=750), [-(-44 * i // 20) for i in range(1, 21)]),  # short epochs: twenty in all
        (Plan(steps=3), [1, 2, 3]),
    ],
)
def test_twenty_lines_of_metrics_at_least(tmp_path, plan, steps):
    train(Recipe(network="plain", size="tiny", plan=plan), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == steps
    assert [line["epoch"] for line in lines] == [round(s * plan.batch_size / 1500, 3) for s in steps]


@pytest.mark.slow
def test_a_breakdown_goes_back_and_on_at_half_the_learning_rate(tmp_path, monkeypatch, capsys):
    """Twice a step blows up: the run goes back to well before it, and on more slowly, to its end."""
    blown, rates = [], []

    class Fragile(Update):
        def __call__(self, step, left):
            rates.append((step, self.state.rate))
            if step == 90 and len(blown) < 2:
                blown.append(step)
                raise Breakdown(step, "the loss is nan", 1e-3)
            return super().__call__(step, left)

    monkeypatch.setattr("ddim.train.loop.Update", Fragile)
    recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=100, batch_size=4))
    train(recipe, tmp_path, save_every=1e-9)
    assert rates[:90] == [(step, 1.0) for step in range(1, 91)]
    again = rates[90][0]
    assert again <= 90 - 50  # well before, in case the last checkpoints were spoilt already
    assert rates[90 : 90 + 91 - again] == [(step, 0.5) for step in range(again, 91)]
    assert rates[-1] == (100, 0.25)
    said = capsys.readouterr().err
    assert said.count("broke down at step 90: the loss is nan. It continues from step") == 2
    lines = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(5, 101, 5))
    assert json.loads((tmp_path / "config.json").read_text())["finished"]


@pytest.mark.slow
def test_a_training_that_always_breaks_down_is_given_up(tmp_path, monkeypatch):
    class Hopeless(Update):
        def __call__(self, step, left):
            if step == 60:
                raise Breakdown(step, "the loss is nan", self.state.rate)
            return super().__call__(step, left)

    monkeypatch.setattr("ddim.train.loop.Update", Hopeless)
    recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=70, batch_size=4))
    with pytest.raises(UserError, match=r"broke down at step 60: the loss is nan; begin again.*below 0\.0625"):
        train(recipe, tmp_path)


def test_a_trained_model_can_be_trained_further(tmp_path):
    """The model that is returned has the averaged weights, and gradients as any other."""
    model = train(Recipe(network="plain", size="tiny", plan=Plan(steps=2, batch_size=8)), tmp_path)
    saved = load(tmp_path)
    for ours, theirs in zip(model.network.parameters(), saved.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [now.step for now in fit(model, open_images("digits"), Plan(steps=1, batch_size=8))] == [1]
