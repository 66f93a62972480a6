import json

import pytest
import torch

from ddim import experiments, model_io, report
from ddim.errors import Notice, UserError
from ddim.experiments.results import read


def stamp(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*")}


def test_each_experiment_leaves_its_files_and_is_not_made_twice(tmp_path, model):
    assert list(experiments.run(experiments.Setup(tmp_path, model))) == ["gallery", "strips", "timing"]
    first = stamp(tmp_path)
    assert first.keys() == {
        *("ddim.safetensors", "ddpm.safetensors", "strips.safetensors"),
        *("gallery.json", "strips.json", "timing.json", "timing.csv"),
    }
    assert list(experiments.run(experiments.Setup(tmp_path, model))) == ["gallery", "strips", "timing"]
    assert stamp(tmp_path) == first
    assert list(experiments.run(experiments.Setup(tmp_path, model), redo=True, names=["strips"])) == ["strips"]
    changed = {name for name, time in stamp(tmp_path).items() if time != first[name]}
    assert changed == {"strips.safetensors", "strips.json"}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"half")])
def test_samples_that_are_lost_or_broken_are_made_anew(tmp_path, model, damage):
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
    path = tmp_path / "samples/strips.safetensors"
    before = path.read_bytes()
    damage(path)
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
    assert path.read_bytes() == before


def test_a_model_of_any_dtype(tmp_path, model):
    assert list(experiments.run(experiments.Setup(tmp_path, model.double()))) == ["gallery", "strips", "timing"]


def test_results_of_other_weights_are_made_anew(tmp_path, model):
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
    before = (tmp_path / "samples/strips.safetensors").read_bytes()
    with torch.no_grad():
        model.network.head.bias += 0.5
    model_io.save(model, tmp_path)
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
    assert (tmp_path / "samples/strips.safetensors").read_bytes() != before


def test_an_interrupted_experiment_is_made_again(tmp_path, model, monkeypatch):
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments.experiments["strips"], "run", fail)
    with pytest.raises(KeyboardInterrupt):
        list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"], redo=True))
    monkeypatch.undo()
    assert not (tmp_path / "results/strips.json").exists()
    list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
    assert (tmp_path / "results/strips.json").exists()


def test_the_minutes_are_shared_among_what_is_left(tmp_path, model, monkeypatch):
    given = {}
    for name in ("gallery", "strips", "timing"):

        def run(_, seconds, name=name):
            given[name] = seconds
            return experiments.Result(), {}

        monkeypatch.setattr(experiments.experiments[name], "run", run)
    list(experiments.run(experiments.Setup(tmp_path, model), minutes=1))
    assert 30 < given["gallery"] <= 36
    assert given["strips"] == pytest.approx(15, abs=0.5)  # a quarter of the whole minute, which nothing has used
    assert given["timing"] == pytest.approx(60, abs=0.5)
    list(experiments.run(experiments.Setup(tmp_path, model), minutes=1, redo=True, names=["strips"]))
    assert given["strips"] == pytest.approx(60, abs=0.5)


def test_a_limit_cuts_and_says_so(tmp_path, model):
    list(experiments.run(experiments.Setup(tmp_path, model), minutes=1e-6))
    facts = {
        name: json.loads((tmp_path / f"results/{name}.json").read_text())
        for name in experiments.runnable("ddim report RUN")
    }
    assert "from 100 to 36 images" in facts["gallery"]["cut"]
    assert "from 20 to 10 DDPM steps" in facts["gallery"]["cut"]
    assert facts["gallery"]["ddpm"]["steps"] == 10
    assert "from 20 to 10 steps" in facts["strips"]["cut"]
    assert "batches of 4" in facts["timing"]["cut"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"minutes": 0}, "above 0"), ({"minutes": float("nan")}, "above 0"), ({"names": ["dance"]}, "dance")],
)
def test_what_cannot_be_is_refused(tmp_path, model, options, words):
    with pytest.raises(UserError, match=words):
        list(experiments.run(experiments.Setup(tmp_path, model), **options))


def test_a_folder_without_a_model_is_refused(tmp_path, model):
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        list(experiments.run(experiments.Setup(tmp_path / "elsewhere", model)))


def test_an_experiment_that_cannot_be_computed_is_left_out_and_the_next_one_runs(tmp_path, model, monkeypatch):
    def fail(*_):
        raise UserError("It takes two steps.")

    monkeypatch.setattr(experiments.experiments["gallery"], "run", fail)
    with pytest.warns(Notice, match=r"The experiment gallery is left out: It takes two steps\."):
        assert "timing" in list(experiments.run(experiments.Setup(tmp_path, model)))
    stored = read(tmp_path, experiments.experiments["gallery"])
    assert (stored.result, stored.problem) == (None, "It was left out: It takes two steps.")
    assert "It was left out: It takes two steps." in report.write(tmp_path).read_text()
    monkeypatch.undo()
    list(experiments.run(experiments.Setup(tmp_path, model)))  # it is tried again
    assert read(tmp_path, experiments.experiments["gallery"]).result is not None


def test_if_no_experiment_can_be_computed_the_error_is_raised(tmp_path, model, monkeypatch):
    def fail(*_):
        raise UserError("It takes two steps.")

    monkeypatch.setattr(experiments.experiments["strips"], "run", fail)
    with pytest.warns(Notice), pytest.raises(UserError, match="It takes two steps"):
        list(experiments.run(experiments.Setup(tmp_path, model), names=["strips"]))
