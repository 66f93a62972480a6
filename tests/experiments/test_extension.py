"""An experiment from outside the package, and what is read of its results and of those of earlier versions."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddim import experiments, report, run_folder
from ddim.errors import UserError
from ddim.experiments import Claim, Experiment, Table, register
from ddim.experiments import experiments as registry
from ddim.experiments.base import Cell, Count, Positive
from ddim.experiments.results import convert, load_json, read
from ddim.plots.canvas import Canvas
from madeup import leave

SHIPPED = Path(__file__).parents[2] / "docs" / "results"


@dataclass(frozen=True, kw_only=True)
class Result(experiments.Result):
    """How many samples are bright."""

    count: Positive
    bright: Count


class Brightness(Experiment[Result]):
    """An experiment of a user."""

    title = "Bright samples"
    reference = "not in the paper"
    caption = "How many samples are <i>bright</i>."
    share = 0.1
    needs_images = False
    tensors = {"images": 4}
    result_type = Result

    def calls(self, model):
        return 4.0 * model.sampling.steps

    def run(self, setup, seconds=None):
        images = setup.model.sample(4, seed=0, progress=False)
        bright = int((images.flatten(1).mean(1) > 9).sum())
        return Result(count=4, bright=bright), {"images": ((images + 1) * 127).byte()}

    def figure(self, result, samples):
        canvas = Canvas(300)
        canvas.axes(100, 50, 1800, 200).plot(samples["images"].float().flatten(1).mean(1))
        return canvas.figure

    def tables(self, result):
        return [Table(["samples", "bright"], [[Cell.count(result.count), Cell.count(result.bright)]])]

    def claims(self, result, T):
        claim = "Some samples are bright."
        if result is None:
            return [Claim.not_measured(claim, "the brightness of samples")]
        return [Claim(claim, result.bright > 0, f"{result.bright} of {result.count} samples are bright.")]


@pytest.fixture
def brightness():
    """The experiment, registered as a user's file would register it."""
    register("brightness")(Brightness)
    yield registry["brightness"]
    del registry["brightness"]


def test_one_class_is_on_the_page_in_the_markdown_and_in_the_list(brightness, trained, tmp_path):
    folder = trained()
    assert "Bright samples is not shown. Its result is not in the folder yet." in report.write(folder).read_text()
    assert "brightness" in experiments.runnable()
    model = run_folder.read(folder).model
    setup = experiments.Setup(folder, model)
    assert list(experiments.run(setup, names=["brightness"])) == ["brightness"]
    page = report.write(folder).read_text(encoding="utf-8")
    assert '<figure id="brightness">' in page
    assert "How many samples are <i>bright</i>." in page
    readme = report.digest(folder, tmp_path / "small").read_text(encoding="utf-8")
    assert "![Bright samples](brightness.png)" in readme
    assert "✗ **fails: Some samples are bright.**" in readme
    assert "✗ fails: Some samples are bright. 0 of 4 samples are bright." in report.verdict(folder)


def test_an_experiment_that_does_not_apply_says_why_and_is_left_out(brightness, trained, monkeypatch):
    folder = trained()
    monkeypatch.setattr(Brightness, "unsuitable", lambda self, model: "This model is too dark.")
    page = report.write(folder).read_text(encoding="utf-8")
    assert "Bright samples is not shown. This model is too dark.</li>" in page  # and no command that makes it
    assert not any("bright" in line for line in report.verdict(folder))
    model = run_folder.read(folder).model
    assert "brightness" not in experiments.runnable(model=model)
    with pytest.raises(UserError, match="'brightness' does not apply to this model: This model is too dark"):
        list(experiments.run(experiments.Setup(folder, model), names=["brightness"]))


def test_a_count_of_zero_is_a_count(brightness, trained):
    """It is just then that a claim fails."""
    folder = trained()
    leave(folder, "brightness", {"count": 4, "bright": 0})
    assert read(folder, brightness).result == Result(count=4, bright=0)
    leave(folder, "brightness", {"count": 0, "bright": 0})
    assert read(folder, brightness).result is None


@pytest.mark.parametrize("part", ["title", "reference", "caption", "result_type", "share", "calls", "run", "figure"])
def test_a_forgotten_part_is_an_error_at_import(part):
    parts = {name: one for name, one in vars(Brightness).items() if name not in (part, "__dict__", "__weakref__")}
    with pytest.raises(TypeError, match=f"'dim' .* lacks {part}"):
        register("dim")(type("Dim", (Experiment,), parts))
    assert "dim" not in registry


def test_an_unreadable_result_is_made_again(brightness, trained):
    folder = trained()
    leave(folder, "brightness", {"count": 4, "bright": "many"})
    assert "cannot be read" in read(folder, brightness).problem
    list(experiments.run(experiments.Setup(folder, run_folder.read(folder).model), names=["brightness"]))
    assert read(folder, brightness).result == Result(count=4, bright=0)


def test_what_needs_an_experiment_brings_it_and_comes_after_it():
    assert experiments.runnable()[-1] == "table1"
    assert experiments.runnable().index("evaluation") < experiments.runnable().index("memorisation")
    assert "compare" not in experiments.runnable()
    assert experiments.runnable("ddim report RUN") == ["gallery", "strips", "timing"]


@pytest.mark.parametrize("model", ["mnist", "airplanes"])
def test_the_results_of_the_shipped_models_are_still_read(model):
    """They were written before results were dataclasses; in numbers.json, with null for infinity."""
    numbers = load_json(SHIPPED / model / "numbers.json")
    assert numbers.keys() == registry.keys()  # of the experiments that `only_known` leaves
    for name, facts in numbers.items():
        result = convert(registry[name], facts)
        assert result is not None, name
        assert all(table.rows for table in registry[name].tables(result))
    evaluation = convert(registry["evaluation"], numbers["evaluation"])
    assert evaluation.metrics["frechet"].value == numbers["evaluation"]["figures"]["frechet"]["value"]
    assert ("accuracy" in evaluation.metrics) == ("agreement" in numbers["evaluation"]["figures"])
    compare = convert(registry["compare"], numbers["compare"])
    assert compare.rows[0].metrics["kid"].floor_low == numbers["compare"]["rows"][0]["kid_floor_low"]
    assert not [name for name in compare.rows[0].metrics if "floor" in name]  # the floor of a metric is no metric


def test_numbers_that_are_not_finite_are_written_as_null(tmp_path):
    one = registry["solvers"]
    row = {"solver": "ddim", "spacing": "linear", "budget": 5, "calls": 5, "steps": 5}
    facts = {"usual": ["ddim", "linear"], "floor": 0.1, "reference_steps": 9, "count": 1, "rows": [row]}
    for distance in (float("inf"), float("nan"), None):
        row["distance"] = distance
        (tmp_path / "old.json").write_text(json.dumps(facts))
        result = convert(one, load_json(tmp_path / "old.json"))
        assert result is not None
        experiments.results.keep(tmp_path, one, "these", result, {})
        assert json.loads((tmp_path / "results/solvers.json").read_text())["rows"][0]["distance"] is None
        assert read(tmp_path, one).result == result


def test_old_names_still_work():
    with pytest.warns(DeprecationWarning, match="is now experiments"):
        assert experiments.PIECES is registry
    with pytest.warns(DeprecationWarning, match="is now runnable"):
        assert experiments.LOOK == ("gallery", "strips", "timing")
