"""--quiet and --json of every command: what is on stdout and on stderr, and the exit code."""

import json
import re
from pathlib import Path

import pytest

from ddim import samplers
from ddim.cli import main
from ddim.cli.output import Output, split
from ddim.samplers import DDIM


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def results(capsys, *words):
    """Run a command with --json, and return the object that it prints and its notes."""
    main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out), err


def test_the_flags_may_stand_anywhere():
    assert split(["--json", "list", "--quiet", "data"]) == (["list", "data"], Output(quiet=True, json=True))
    assert split(["list"]) == (["list"], Output())


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"]])
def test_help_shows_them(capsys, words):
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().out
    for flag in ("--plugin", "--quiet", "--json"):
        assert len(re.findall(rf"^ +{flag} ", said, re.M)) == 1


def test_list(capsys):
    found, _ = results(capsys, "list", "samplers")
    assert list(found) == ["command", "samplers"]
    assert list(found["samplers"]) == samplers.names()


@pytest.mark.parametrize(("out", "sampler", "calls"), [("grid.png", "heun", 5), ("images.npz", "ddim", 3)])
def test_sample(capsys, run_folder, out, sampler, calls):
    words = ("--count", 2, "--steps", 3, "--sampler", sampler, "--out", out, "--device", "cpu")
    found, _ = results(capsys, "sample", run_folder, *words)
    assert 0 < found.pop("seconds") < 60
    assert found == {"command": "sample", "out": out, "count": 2, "calls": calls, "backend": "torch fp32"}
    assert Path(out).is_file()


def test_inspect(capsys):
    found, _ = results(capsys, "inspect", "digits")
    assert Path(found["picture"]).is_file()
    assert sum(counts["train"] for counts in found["classes"].values()) == 1500


def test_a_command_without_results_gives_what_it_prints(capsys, run_folder):
    found, _ = results(capsys, "interpolate", run_folder, "--seeds", "0,1", "--steps", 2, "--device", "cpu")
    assert found == {"command": "interpolate", "printed": ["8 images in interpolation.png."]}


class Lazy(DDIM):
    """States an order that it has not."""

    order = 2


def test_verify_exits_with_1_and_says_what_failed(capsys, monkeypatch):
    monkeypatch.setitem(samplers.samplers, "lazy", Lazy)
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--solvers", "lazy", "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (1, "")
    assert json.loads(out)["solvers"][0]["passed"] is False


def test_an_error_is_a_sentence_and_leaves_stdout_empty(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sample", "nothing", "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert err.startswith("ddim: There is no run at nothing")


def test_train_is_quiet_and_says_where_it_ended(capsys):
    words = ("--size", "tiny", "--steps", 2, "--batch-size", 4, "--device", "cpu", "--out", "run")
    found, notes = results(capsys, "train", "digits", *words, "--quiet")
    assert notes == ""
    assert (found["command"], found["run"], found["step"]) == ("train", "run", 2)
    assert {"loss", "held_out", "seconds"} <= found.keys()
