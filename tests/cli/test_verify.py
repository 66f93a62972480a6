"""`ddim verify` as a user meets it."""

import csv
import json

import pytest
from PIL import Image

from ddim import model_io, schedule
from ddim.cli import main
from ddim.denoiser import Denoiser
from ddim.samplers import DDIM, samplers


class Lazy(DDIM):
    """States an order that it has not."""

    order = 2


def test_the_proofs(tmp_path, capsys):
    main(["verify", "--solvers", "ddim,ddpm", "--out", str(tmp_path / "proofs")])
    said = capsys.readouterr().out
    facts = json.loads((tmp_path / "proofs" / "solvers.json").read_text())
    assert facts["passed"]
    assert [one["solver"] for one in facts["solvers"]] == ["ddim", "ddpm"]
    assert all(one["passed"] for one in facts["identities"])
    for line in said.splitlines()[1:3]:
        assert line.endswith("pass")
    assert "Samplers that pass: 2 of 2." in said
    with Image.open(tmp_path / "proofs" / "solvers.png") as figure:
        assert figure.width == 2000
    assert (tmp_path / "proofs" / "solvers.svg").exists()


def test_a_proof_that_fails_is_exit_code_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(samplers, "lazy", Lazy)
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--solvers", "ddim,lazy", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert stop.value.code == 1
    assert "FAILED: lazy" in said
    assert "FAIL" in said
    assert not json.loads((tmp_path / "solvers.json").read_text())["passed"]


@pytest.fixture
def short_run(model, tmp_path):
    """A run whose model has 20 steps."""
    small = Denoiser(model.network, schedule.linear(T=20, beta_start=0.005, beta_end=0.6), shape=model.shape)
    model_io.save(small, tmp_path / "run")
    return tmp_path / "run"


def test_a_run(short_run, capsys):
    words = ["--solvers", "ddim", "--spacings", "trailing,log-snr", "--calls", "5,2", "--count", "2"]
    main(["verify", str(short_run), *words, "--device", "cpu"])
    said = capsys.readouterr().out
    assert "With 2 calls: ddim with" in said
    facts = json.loads((short_run / "results" / "solvers.json").read_text())
    assert facts["weights"] == model_io.fingerprint(short_run)
    assert len(facts["rows"]) == 4
    with (short_run / "results" / "solvers.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [float(row["distance"]) for row in table] == [row["distance"] for row in facts["rows"]]
    with Image.open(short_run / "figures" / "solvers.png") as figure:
        assert figure.width == 2000
    main(["verify", str(short_run), *words, "--device", "cpu"])  # the endpoint is kept, the numbers stay
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calls", "5,x"], "whole numbers"),
        (["--calls", "0"], "above 0"),
        (["--solvers", "euler"], "choose one of ddim"),
        (["--solvers", "ddpm"], "draws noise"),
        (["--spacings", "sqrt"], "choose one of trailing"),
        (["--count", "0"], "at least 1 image"),
    ],
)
def test_requests_that_cannot_be(short_run, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(short_run), *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_solver_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--solvers", "euler", "--out", str(tmp_path / "proofs")])
    assert stop.value.code == 2
    assert "choose one of ddim" in capsys.readouterr().err
    assert not (tmp_path / "proofs").exists()


@pytest.mark.parametrize("words", [["--calls", "5"], ["--spacings", "trailing"], ["--count", "3"]])
def test_flags_that_want_a_run(tmp_path, capsys, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["verify", *words])
    assert stop.value.code == 2
    assert f"{words[0]} is for comparing samplers on a run" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
