"""The command as a user meets it: in a process of its own wherever exit codes and messages matter."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import ddim
from ddim.cli import _parse, main
from ddim.train.loop import held_out_loss


def ddim_command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ddim", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def refused(capsys, *arguments):
    """The one sentence that a refused command prints."""
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in said
    return said


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom ddim.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("train", "sample", "reproduce", "report"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["train", "sample", "reproduce", "report"])
def test_every_command_explains_itself_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"  ddim {command} " in said


def test_version(capsys):
    main(["--version"])
    said = capsys.readouterr().out
    assert f"ddim {ddim.__version__}\n" in said
    assert f"torch {torch.__version__}\n" in said


def test_flags_win_over_the_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('data = "digits"\nsize = "small"\n[plan]\nepochs = 3\nbatch_size = 16\n')
    asked = _parse(["train", str(path), "--size", "tiny", "--batch-size", "8"]).recipe
    assert (asked.size, asked.plan.batch_size, asked.plan.epochs) == ("tiny", 8, 3)
    limited = _parse(["train", str(path), "--minutes", "2"]).recipe.plan
    assert (limited.epochs, limited.minutes, limited.batch_size) == (None, 2, 16)
    assert _parse(["train", "mnist"]).recipe.data == "mnist"
    assert _parse(["train", "cifar10", "--classes", "airplane"]).recipe.classes == "airplane"


def test_train_then_sample_then_resample(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", "digits", "--steps", "30", "--out", str(run), "--device", "cpu"])
    assert {"config.json", "model.safetensors", "metrics.jsonl", "environment.json"} <= set(os.listdir(run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [24, 30]
    assert lines[-1]["loss"] < lines[0]["loss"] < 1.2
    held_out = held_out_loss(ddim.load(run), ddim.open_images("digits", split="test"))
    assert lines[-1]["held_out"] == pytest.approx(held_out, rel=1e-6)
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"] == torch.__version__
    assert json.loads((run / "config.json").read_text())["recipe"]["plan"]["steps"] == 30

    main(["sample", str(run), "--count", "5", "--steps", "4", "--out", str(tmp_path / "grid.png")])
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.mode == "L"
    main(["sample", str(run), "--count", "3", "--first", "2", "--steps", "4", "--out", str(tmp_path / "each")])
    assert sorted(os.listdir(tmp_path / "each")) == ["000002.png", "000003.png", "000004.png"]
    with Image.open(tmp_path / "each" / "000003.png") as image:
        assert image.size == (8, 8)
    assert "3 images" in capsys.readouterr().out

    model = (run / "model.safetensors").read_bytes()
    assert "--overwrite" in refused(capsys, "train", "digits", "--steps", "1", "--out", run)
    assert (run / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_learnt(tmp_path, kind):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ddim", "train", "digits", "--minutes", "5", "--out", str(run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline
            assert training.poll() is None
            time.sleep(0.1)
        training.send_signal(kind)
        said = training.stderr.read()
    assert training.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert ddim.load(run).sample(1, steps=2, progress=False).isfinite().all()


def test_a_full_disk_during_training_is_one_sentence(tmp_path):
    """The weights are larger than any file may grow here: the history stays, and no broken model appears."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    code = f"{limit}from ddim.cli import main\nmain(['train', '--steps', '2', '--out', {str(tmp_path / 'run')!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Could not write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("*model*"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_module_runs_as_the_command():
    done = ddim_command("sample", "runs/nowhere")
    assert done.returncode == 2
    assert (
        done.stderr
        == "ddim: There is no run at runs/nowhere; train one first, for instance with `ddim train digits`.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nope"], "no data set called 'nope'"),
        (["train", "nope.toml"], "Could not read the recipe"),
        (["train", "digits", "--epochs", "0"], "epochs must be above 0"),
        (["train", "digits", "--device", "tpu"], "no device 'tpu'"),
        (["train", "digits", "--classes", "airplane"], "airplane"),
        (["reproduce", "faces"], "choose one of airplanes, digits, mnist"),
        (["reproduce", "digits", "--quick", "--minutes", "3"], "not both"),
        (["report", "nowhere"], "no run at nowhere"),
    ],
)
def test_requests_that_cannot_be(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *arguments)
    assert os.listdir(tmp_path) == []  # nothing half-written


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--steps", "0"], "from 1 to T = 1000"),
        (["--steps", "1001"], "from 1 to T = 1000"),
        (["--eta", "-1"], "eta must be"),
        (["--sampler", "euler"], "choose one of ddim"),
        (["--spacing", "sqrt"], "choose one of trailing"),
        (["--spacing", "10,20"], "descend strictly"),
        (["--spacing", "1,b"], "commas between"),
        (["--labels", "1"], "without classes"),
        (["--count", "0"], "at least 1"),
    ],
)
def test_samples_that_cannot_be(capsys, run_folder, flags, said):
    before = sorted(os.listdir(run_folder))
    assert said in refused(capsys, "sample", run_folder, *flags)
    assert sorted(os.listdir(run_folder)) == before


def test_an_empty_data_folder(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    said = refused(capsys, "train", "mnist", "--data-dir", tmp_path / "empty", "--out", tmp_path / "run")
    assert "train-images" in said
    assert not (tmp_path / "run").exists()
