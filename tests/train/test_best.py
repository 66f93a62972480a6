"""The best average of a training is the model: measured on the way, resumed, and chosen among widths at the end."""

import json
import math
import shutil

import pytest
import torch

from ddim.errors import UserError
from ddim.files import read_tensors
from ddim.train import Plan, Recipe, averages, checkpoints, logger, train
from ddim.train.best import KIND, Best

SCORES = {1: 5.0, 2: 3.0, 3: 4.0, 4: 6.0, 5: 2.0, 6: 2.5, 7: 9.0, 8: 7.0}  # of the average after each update
SIZE = 4  # images in an update


@pytest.fixture(scope="module", autouse=True)
def one_line_of_losses():
    """Most of the time of such short runs would go into the 20 lines of metrics with losses."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logger, "MIN_LINES", 1)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 8 updates, all measured, and the model that it returned."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(folder, validator=Scripted())


class Scripted:
    """Measures every update: the first ones by a script, what comes after it by `widths`."""

    metric, calls = "kid", 1

    def __init__(self, first=1, last=8, widths=()):
        self.distances = [*(SCORES[step] for step in range(first, last + 1)), *widths]

    def measure(self, model):
        torch.rand(3)  # of PyTorch's own generator
        return {"kid": self.distances.pop(0) if self.distances else math.inf}

    def describe(self):
        return {"metric": "kid"}


def trained(folder, steps=8, validator=None, **changes):
    plan = Plan(steps=steps, batch_size=SIZE, validate=0.5, precision="fp32", **changes)
    recipe = Recipe(network="plain", size="tiny", plan=plan)
    validate = None if validator is None else lambda model, images, held_out: validator
    return train(recipe, folder, resume=True, validate=validate, save_every=1e-9)


def saved(folder):
    return read_tensors(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def average(folder, step):
    return checkpoints.weights(folder, step, raw=False)


def config(folder):
    return json.loads((folder / "config.json").read_text())


def measured(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["kid"] for line in lines if "kid" in line}


@pytest.mark.parametrize(("calls", "batch", "share"), [(5120, 64, 0.05), (5120, 64, 0.5), (640, 8, 0.01), (1, 64, 0.1)])
def test_measuring_takes_at_most_its_share_of_a_training_of_any_length(tmp_path, calls, batch, share):
    """In network calls: three for each image of an update, and widths for as many measurements as the way had."""
    validator = Scripted()
    validator.calls = calls
    best = Best(tmp_path, validator, Plan(batch_size=batch, validate=share))
    for total in (best.every, best.every + 1, 2 * best.every - 1, 10 * best.every + 3):
        on_the_way, widths = -(-total // best.every), total // best.every - 1
        half = share * 3 * batch * total / 2
        assert (on_the_way - 1) * calls <= half
        assert (1 + widths) * calls <= half
    assert calls < share * 3 * batch * 10 * best.every / 2  # and it is not left out


def test_the_model_is_the_best_average_and_not_the_last(whole, tmp_path):
    folder, model = whole
    assert measured(folder) == SCORES
    assert config(folder)["average"] == {"width": 0.1, "error": 0.0, "step": 5}
    assert same(saved(folder), read_tensors(checkpoints.path_of(folder, 5, KIND)))
    assert not same(saved(folder), average(folder, 8))
    assert same(model.network.state_dict(), saved(folder))
    shutil.copytree(folder, tmp_path / "run")
    averages.write(tmp_path / "run", 0.1)
    assert same(saved(tmp_path / "run"), average(folder, 8))


def test_measuring_changes_no_update(whole, tmp_path):
    trained(tmp_path)
    assert same(checkpoints.read(tmp_path, 8)[0], checkpoints.read(whole[0], 8)[0])
    assert same(saved(tmp_path), average(tmp_path, 8))
    assert "validation" not in config(tmp_path)


@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_ends_with_the_same_model(whole, tmp_path, stop):
    trained(tmp_path, stop, Scripted())
    trained(tmp_path, 8, Scripted(first=stop + 1))
    assert same(saved(tmp_path), saved(whole[0]))
    assert measured(tmp_path) == measured(whole[0])
    assert config(tmp_path)["average"]["step"] == 5


def test_a_run_that_goes_back_to_an_earlier_checkpoint_has_the_best_of_that_step(whole, tmp_path):
    """The best of 8 updates is after 5; those after 4 and before have their own, which is after 2."""
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    kept = checkpoints.steps(tmp_path, KIND)
    assert kept == [1, 2, 5]  # of the checkpoints 1, 3, 7 and 8
    checkpoints.clear(tmp_path, after=3)  # as if they were damaged
    trained(tmp_path, 4, Scripted(first=4, last=4))
    assert measured(tmp_path) == {step: SCORES[step] for step in (1, 2, 3, 4)}
    assert config(tmp_path)["average"]["step"] == 2
    assert checkpoints.steps(tmp_path, KIND) == [1, 2]


def test_another_width_is_the_model_if_its_samples_are_closer(tmp_path):
    validator = Scripted(widths=[1.0, 0.5, 3.0])
    model = trained(tmp_path, validator=validator)
    tried = config(tmp_path)["validation"]["widths"]
    width = next(width for width, distance in tried.items() if distance == 0.5)
    weights, found = averages.rebuild(tmp_path, float(width))
    assert config(tmp_path)["average"] == {"width": float(width), "error": found.error, "step": 8}
    assert same(saved(tmp_path), weights)
    assert same(model.network.state_dict(), weights)


class Copying(Scripted):
    """Its samples show copies from one update on, as do those of other widths."""

    def __init__(self, first, **options):
        super().__init__(**options)
        self.honest = first - 1  # measurements before that

    def measure(self, model):
        self.honest -= 1
        return super().measure(model) | {"copies": 0.5, "copies_p": 0.01 if self.honest >= 0 else 1e-9}


@pytest.mark.parametrize(("first", "step"), [(9, 5), (5, 2), (2, 1), (1, 1)])
def test_weights_that_draw_copies_are_not_the_best_however_close_their_samples(tmp_path, first, step):
    trained(tmp_path, validator=Copying(first, widths=[0.1, 0.1]))
    assert config(tmp_path)["average"]["step"] == step
    assert config(tmp_path)["validation"]["widths"] == {}
    assert same(saved(tmp_path), read_tensors(checkpoints.path_of(tmp_path, step, KIND)))


def test_a_training_that_still_runs_saves_its_latest_average_while_that_is_the_best(tmp_path):
    """Measured after every second update: at 3 updates the model is that of 3, which nothing says is worse."""
    validator = Scripted()
    validator.calls, validator.distances = 5, [3.0, 2.0, 2.5, 9.0]
    assert Best(tmp_path, validator, Plan(batch_size=SIZE, validate=0.5)).every == 2
    seen = {}

    def note(model):
        step = checkpoints.newest(tmp_path)
        seen[step] = same(saved(tmp_path), average(tmp_path, step))
        return {"kid": validator.distances.pop(0) if validator.distances else math.inf}

    validator.measure = note
    trained(tmp_path, validator=validator, ema=(0.1,), snapshots=0)
    assert seen == {1: True, 3: True, 5: True, 7: False, 8: False}  # the last one before the widths are measured


def test_without_a_share_or_without_enough_images_the_last_average_is_the_model(tmp_path, capsys):
    def refuse(model, images, held_out):
        raise UserError("There are too few.")

    plan = Plan(steps=2, batch_size=SIZE, validate=0.5)
    train(Recipe(network="plain", size="tiny", plan=plan), tmp_path, validate=refuse)
    assert "measures no samples on the way: There are too few." in capsys.readouterr().err
    assert same(saved(tmp_path), average(tmp_path, 2))
    with pytest.raises(UserError, match=r"validate must be a share of the time from 0 to 0\.5; got 0\.6"):
        Plan(validate=0.6)


def test_a_damaged_file_of_the_best_weights_leaves_the_last_average(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    checkpoints.path_of(tmp_path, 5, KIND).write_bytes(b"nothing")
    trained(tmp_path, 9, Scripted(first=9))
    assert same(saved(tmp_path), average(tmp_path, 9))
    assert "average" not in config(tmp_path)
