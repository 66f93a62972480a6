import json

import pytest

from ddim.train import Plan, Recipe
from ddim.train.run import train


@pytest.mark.parametrize(
    ("plan", "steps"),
    [
        (Plan(epochs=22, batch_size=750), list(range(2, 45, 2))),  # two updates an epoch
        (Plan(epochs=22, batch_size=1500), list(range(1, 23))),
        (Plan(steps=3), [1, 2, 3]),
    ],
)
def test_a_line_of_metrics_for_each_epoch(tmp_path, plan, steps):
    train(Recipe(network="plain", size="tiny", plan=plan), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == steps
    assert [line["epoch"] for line in lines] == [round(s * plan.batch_size / 1500, 3) for s in steps]
