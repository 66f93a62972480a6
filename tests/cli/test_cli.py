"""The command as a user meets it: in a process of its own wherever exit codes and messages matter."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused

import ddim
from ddim import model_io
from ddim.cli import COMMANDS, main, parse
from ddim.cli.reproduce import Reproduce
from ddim.data import Images, to_uint8
from ddim.errors import Notice
from ddim.train import fit
from ddim.train import recipe as recipes
from ddim.train.loss import losses_by_level
from ddim.train.run import build


def ddim_command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ddim", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom ddim.cli import main\n"
        "try: main(['--help'])\nfinally: assert not {'torch', 'importlib.metadata'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


NEEDED = {"PIL", "ddim", "filelock", "msgspec", "numpy", "safetensors", "torch", "tqdm", "tyro"}  # by `ddim sample`
THEIRS = {"docstring_parser", "typeguard", "typing_extensions"}  # what tyro and torch import


@pytest.mark.slow
def test_sampling_imports_what_it_needs_and_exits_at_once(tmp_path):
    code = (
        "import atexit, gc, json, sys\nimport torch, numpy.random\nbefore = set(sys.modules)\n"
        "atexit.register(lambda: print(json.dumps([gc.get_freeze_count(), sorted(set(sys.modules) - before)])))\n"
        "from ddim.cli import main\nmain(['sample', 'mnist', '--count', '1', '--steps', '1', '--out', sys.argv[1]])"
    )
    words, environment = [sys.executable, "-c", code, str(tmp_path)], {**os.environ, "DDIM_BACKEND": "torch"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    frozen, modules = json.loads(done.stdout.splitlines()[-1])
    packages = {name.split(".")[0] for name in modules if not name.startswith("_")} - sys.stdlib_module_names
    assert packages <= NEEDED | THEIRS
    assert not [name for name in modules if name.startswith(("torch._dynamo", "torch._inductor", "torch.onnx"))]
    assert {name for name in modules if name.startswith("ddim.cli.")} == {
        f"ddim.cli.{name}" for name in ("drawing", "guidance", "options", "output", "sample")
    }
    assert frozen > 50_000  # objects that the exit leaves alone


@pytest.mark.parametrize("command", COMMANDS)
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
    assert f"torch {version('torch')}\n" in said


def test_flags_win_over_the_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('data = "digits"\nsize = "small"\n[plan]\nepochs = 3\nbatch_size = 16\n')
    asked = parse(["train", str(path), "--size", "tiny", "--batch-size", "8"]).recipe
    assert (asked.size, asked.plan.batch_size, asked.plan.epochs) == ("tiny", 8, 3)
    limited = parse(["train", str(path), "--minutes", "2"]).recipe.plan
    assert (limited.epochs, limited.minutes, limited.batch_size) == (None, 2, 16)
    for words in (["mnist"], ["mnist", "--out", "x"], ["--out", "x", "mnist"], ["--steps", "5", "mnist"]):
        asked = parse(["train", *words])
        assert (asked.what, asked.recipe.data, asked.recipe.plan.batch_size) == ("mnist", "mnist", 64)
    assert parse(["train", "cifar10", "--classes", "airplane"]).recipe.classes == "airplane"


@pytest.mark.slow
def test_train_then_sample_then_resample(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", "digits", "--steps", "30", "--out", str(run), "--device", "cpu"])
    assert {"config.json", "model.safetensors", "metrics.jsonl", "environment.json"} <= set(os.listdir(run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [-(-3 * i // 2) for i in range(1, 21)]  # twenty, as epochs are few
    assert lines[-1]["loss"] < lines[0]["loss"] < 1.2
    held_out = losses_by_level(ddim.load(run), ddim.open_images("digits", split="test"))
    assert lines[-1]["held_out"] == pytest.approx(sum(held_out) / len(held_out), rel=1e-6)
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"] == version("torch")
    assert json.loads((run / "config.json").read_text())["recipe"]["plan"]["steps"] == 30

    main(["sample", str(run), "--count", "5", "--steps", "4", "--out", str(tmp_path / "grid.png")])
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.mode == "L"
    main(["sample", str(run), "--count", "3", "--first", "2", "--steps", "4", "--out", str(tmp_path / "each")])
    assert sorted(os.listdir(tmp_path / "each")) == ["000002.png", "000003.png", "000004.png"]
    with Image.open(tmp_path / "each" / "000003.png") as image:
        assert image.size == (8, 8)
    assert "3 images" in capsys.readouterr().out

    recipe = recipes.shipped("digits")
    images = ddim.open_images("digits")
    *_, last = fit(build(recipe, images), images, replace(recipe.plan, steps=30))
    for (
        name,
        averaged,
    ) in last.average.network.state_dict().items():  # the same seed, and the average is what is saved
        torch.testing.assert_close(ddim.load(run).network.state_dict()[name], averaged)

    model = (run / "model.safetensors").read_bytes()
    assert "--overwrite" in refused(capsys, "train", "digits", "--steps", "1", "--out", run)
    assert (run / "model.safetensors").read_bytes() == model


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_learnt(tmp_path, kind):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ddim", "train", "digits", "--minutes", "1", "--out", str(run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline
            assert training.poll() is None
            time.sleep(0.1)
        training.send_signal(kind)
        said = training.stderr.read()
    assert training.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert ddim.load(run).sample(1, steps=2, progress=False).isfinite().all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_module_runs_as_the_command():
    done = ddim_command("sample", "runs/nowhere")
    assert done.returncode == 2
    assert done.stderr == (
        "ddim: There is no run at runs/nowhere; train one first, for instance with `ddim train digits`, or take "
        "a model that comes with ddim: airplanes, mnist, mnist-turbo.\n"
    )


def test_a_model_that_comes_with_ddim_is_sampled_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["sample", "mnist", "--labels", "3,1,4", "--steps", "2", "--device", "cpu"])
    assert capsys.readouterr().out == "3 images in samples/mnist-seed0-2steps-labels3-1-4.png (torch fp32).\n"
    with Image.open("samples/mnist-seed0-2steps-labels3-1-4.png") as grid:
        assert grid.width > 3 * 28
    assert ddim.load("airplanes").shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nope"], "no data set called 'nope'"),
        (["train", "nope.toml"], "Could not read the recipe"),
        (["train", "digits", "--epochs", "0"], "epochs must be a number above 0"),
        (["train", "digits", "--device", "tpu"], "no device 'tpu'"),
        (["train", "digits", "--classes", "airplane"], "airplane"),
        (["reproduce", "faces"], "choose one of airplanes, "),
        (["reproduce", "digits", "--quick", "--minutes", "3"], "give one of them"),
        (["report", "nowhere"], "no run at nowhere"),
        (["train", "digits", "--epochs", "inf"], "epochs must be"),
        (["train", "digits", "--seed", str(10**30)], "seed"),
        (["train", "digits", "--device", "cpu:abc"], "no device"),
        (["train", "digits", "--image-size", "100000"], "1 to 1024"),
        (["sample", "x" * 5000], "File name too long"),
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
        (["--first", str(10**30)], "index must be"),
        (["--sampler", "ddpm", "--eta", "0.5"], "does not take eta"),
        (["--sampler", "unipc", "--eta", "0.5"], "does not take eta"),
        (["--out", "grid.jpg"], "written as PNG"),
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


def test_sample_flags_reach_the_model(run_folder, tmp_path, model):
    """What the command draws is what `Denoiser.sample` gives for the same words."""
    words = ["--count", "2", "--steps", "3", "--seed", "7", "--first", "1", "--eta", "0.5", "--no-clip"]
    main(["sample", str(run_folder), *words, "--spacing", "900,400,50", "--out", str(tmp_path / "each")])
    same = model.sample(2, spacing=[900, 400, 50], seed=7, first=1, eta=0.5, clip=False, progress=False)
    for i, image in enumerate(to_uint8(same), start=1):
        with Image.open(tmp_path / "each" / f"{i:06d}.png") as drawn:
            assert torch.equal(torch.from_numpy(np.array(drawn)), image[0])


def test_a_solver_by_name(run_folder, tmp_path, model):
    main(["sample", str(run_folder), "--count", "1", "--steps", "4", "--sampler", "unipc", "--out", str(tmp_path)])
    same = model.sample(1, steps=4, sampler="unipc", progress=False)
    with Image.open(tmp_path / "000000.png") as drawn:
        assert torch.equal(torch.from_numpy(np.array(drawn)), to_uint8(same)[0, 0])


def test_a_conditional_run_is_sampled_by_label(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", "digits", "--conditional", "--network", "plain", "--steps", "3", "--out", str(run)])
    assert ddim.load(run).classes == 10
    main(["sample", str(run), "--count", "2", "--labels", "3,1", "--guidance", "2", "--steps", "2"])
    for labels in ("3,1,0", "3,10", "nan,1", "0.9,1", "a,b"):
        refused(capsys, "sample", run, "--count", "2", "--labels", labels)
    refused(capsys, "sample", run, "--guidance", "nan")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "metrics.jsonl"])
def test_training_deletes_nothing_that_it_was_not_told_to(tmp_path, capsys, name):
    (tmp_path / name).write_text("precious")
    assert "--overwrite" in refused(capsys, "train", "digits", "--steps", "1", "--out", tmp_path)
    assert (tmp_path / name).read_text() == "precious"
    assert os.listdir(tmp_path) == [name]


def test_reproduce_goes_on_with_what_was_interrupted(tmp_path, monkeypatch, capsys):
    """A run is taken for trained only if its training came to its end by the same recipe; else it goes on."""
    trained = []

    def train(recipe, out, *, resume, **_):
        assert resume
        trained.append(recipe)

    monkeypatch.setattr("ddim.train.run.train", train)
    monkeypatch.setattr("ddim.cli.reproduce.Reproduce._experiments", lambda *_: None)
    out = tmp_path / "run"

    def reproduce(*words):
        main(["reproduce", "digits", "--quick", "--out", str(out), *words])

    reproduce()
    assert len(trained) == 1
    model = build(trained[0], ddim.open_images("digits"))
    model_io.save(model, out, recipe=asdict(trained[0]), finished=False)
    reproduce()
    assert len(trained) == 2
    model_io.save(model, out, recipe=asdict(trained[0]), finished=True)
    reproduce()
    assert len(trained) == 2
    said = refused(capsys, "reproduce", "digits", "--minutes", "3", "--out", out)
    assert "another recipe" in said
    assert f"without training: ddim reproduce {out}" in said
    main(["reproduce", str(out), "--full"])
    assert len(trained) == 2


@pytest.mark.parametrize(
    ("channels", "classes", "said"), [(3, None, "images of shape (3, 8, 8)"), (1, 3, "knows 3 classes")]
)
def test_reproduce_takes_no_model_of_other_images(tmp_path, capsys, channels, classes, said):
    """It is refused before anything is written, or computed for half an hour."""
    network = ddim.nets.build("plain", channels, "tiny", classes)
    model = ddim.Denoiser(network, ddim.schedule.linear(), shape=(channels, 8, 8), classes=classes)
    model_io.save(model, tmp_path / "other")
    words = ("--model", tmp_path / "other", "--minutes", "0.1", "--out", tmp_path / "out")
    assert said in refused(capsys, "reproduce", "digits", *words)
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize(
    ("learnt", "said"),
    [
        ({"data": "photos/", "classes": None}, "was trained on photos/, but the recipe digits is for digits;"),
        ({"data": "digits", "classes": "3,8"}, "was trained on digits (3,8), but the recipe digits is for digits;"),
    ],
)
def test_reproduce_takes_no_model_that_learnt_from_others_of_the_same_shape(tmp_path, capsys, learnt, said):
    """It cannot have copied images that it never saw."""
    model = ddim.Denoiser(ddim.nets.build("plain", 1, "tiny"), ddim.schedule.linear(), shape=(1, 8, 8))
    model_io.save(model, tmp_path / "other", recipe=learnt)
    words = ("--model", tmp_path / "other", "--minutes", "0.1", "--out", tmp_path / "out")
    assert said in refused(capsys, "reproduce", "digits", *words)
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize("learnt", [None, {}, {"data": "digits", "classes": None}])
def test_reproduce_takes_a_model_of_its_images_or_of_unknown_ones(tmp_path, monkeypatch, learnt):
    monkeypatch.setattr("ddim.cli.reproduce.Reproduce._experiments", lambda *_: None)
    model = ddim.Denoiser(ddim.nets.build("plain", 1, "tiny"), ddim.schedule.linear(), shape=(1, 8, 8))
    model_io.save(model, tmp_path / "other", recipe=learnt)
    main(["reproduce", "digits", "--model", str(tmp_path / "other"), "--out", str(tmp_path / "out")])
    assert model_io.fingerprint(tmp_path / "out") == model_io.fingerprint(tmp_path / "other")


def one_model(folder, **about):
    """Save a small model of digits into a folder."""
    model = ddim.Denoiser(ddim.nets.build("plain", 1, "tiny"), ddim.schedule.linear(), shape=(1, 8, 8))
    model_io.save(model, folder, **about)
    return str(folder)


def test_reproduce_takes_a_run_and_its_own_data(tmp_path, monkeypatch, capsys):
    """It does not train again, and writes into the folder of the run; `--model` alone does the same."""
    seen = []
    monkeypatch.setattr(Reproduce, "_experiments", lambda self, model, source, out, minutes: seen.append((source, out)))
    monkeypatch.chdir(tmp_path)
    run = one_model(tmp_path / "runs/mine", recipe={"data": "digits", "classes": None}, finished=False)
    before = sorted(os.listdir(run))
    for words in ([run], ["runs/mine"], ["--model", run], [run, "--quick"]):
        with pytest.warns(Notice, match="The training of .* is not finished; to continue it: ddim train"):
            main(["reproduce", *words])
        source, out = seen.pop()
        assert (source["name_or_path"], Path(out).resolve()) == ("digits", Path(run))
    assert sorted(os.listdir(run)) == before
    digits = Images(torch.zeros(20, 1, 28, 28, dtype=torch.uint8), torch.arange(20) % 10, tuple("0123456789"), "mnist")
    monkeypatch.setattr(Reproduce, "_images", lambda self, source, split: digits)  # MNIST may not be at hand
    main(["reproduce", "--model", "mnist"])
    assert seen.pop()[1] == Path("runs/mnist")
    assert model_io.fingerprint("runs/mnist") == model_io.fingerprint(ddim.loading.find("mnist"))
    assert "leave out --model mnist" in refused(capsys, "reproduce", run, "--model", "mnist")
    bare = one_model(tmp_path / "bare")
    assert f"ddim reproduce photos/ --model {bare}" in refused(capsys, "reproduce", bare)


def test_reproduce_trains_on_a_folder_of_images(tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(Reproduce, "_experiments", lambda *_: None)
    monkeypatch.setattr("ddim.train.run.train", lambda recipe, out, **_: trained.append((recipe, out)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for words, out in ((["photos/", "--minutes", "4"], "runs/photos"), (["./photos", "--quick"], "runs/photos-quick")):
        main(["reproduce", *words])
        recipe, folder = trained.pop()
        assert (Path(recipe.data), folder) == (Path("photos"), Path(out))
        assert recipe.plan.minutes in (2, 2.5)
    one_model(tmp_path / "runs/photos", recipe=asdict(recipe), finished=True)
    monkeypatch.setattr("ddim.cli.reproduce.Reproduce._images", lambda *_: ddim.open_images("digits"))
    with pytest.raises(SystemExit):
        main(["reproduce", "digits", "--model", "runs/photos", "--out", "x"])
    said = capsys.readouterr().err
    assert "was trained on ./photos, but the recipe digits is for digits" in said
    main(["reproduce", "photos", "--model", "runs/photos", "--out", "x"])  # ./photos and photos are one place


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope.toml"], "Could not read the recipe nope.toml: No such file or directory; check its path"),
        (["photo.txt"], "photo.txt is not TOML"),
        (["runs/nowhere"], "no recipe, data set or folder called 'runs/nowhere'; choose one of airplanes"),
        (["digits", "--out", ""], "The path is empty"),
        (["--model", "photos"], "photos holds no model"),
    ],
)
def test_what_reproduce_does_not_take(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Path("photo.txt").write_text("a photo")
    Path("photos").mkdir()
    assert said in refused(capsys, "reproduce", *words)
    assert sorted(os.listdir(tmp_path)) == ["photo.txt", "photos"]


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_a_folder_that_cannot_be(tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 5000)):
        assert "Could not" in refused(capsys, command, "digits", "--out", out)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("steps", "quick"), [(300, 300), (5000, 1800)])
def test_a_recipe_of_one_s_own_is_reproduced_and_quick_never_adds_to_it(tmp_path, monkeypatch, steps, quick):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'data = "digits"\nsize = "tiny"\n[plan]\nsteps = {steps}\n')
    calls = []
    monkeypatch.setattr(Reproduce, "_trained", lambda self, recipe, out: calls.append((recipe, out)))
    monkeypatch.setattr(Reproduce, "_experiments", lambda *_: None)
    Reproduce(str(recipe), quick=True).run()
    ((read, out),) = calls
    assert (read.data, read.size, read.plan.steps, out.name) == ("digits", "tiny", quick, "mine-quick")
