"""A run finds its images however their path is written; a start that fails leaves the run folder unchanged."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli.refusal import refused
from ddim import load, model_io
from ddim.cli import main
from ddim.data.images import Images
from ddim.errors import UserError
from ddim.train import Plan, Recipe, checkpoints, fit
from ddim.train.guards import report_failed_compiler
from ddim.train.loop import Update
from ddim.train.recipe import source
from ddim.train.run import train

WORDS = ("--network", "plain", "--size", "tiny", "--batch-size", "4", "--device", "cpu")
RECIPE = Recipe(network="plain", size="tiny", plan=Plan(steps=1, batch_size=4))
IMAGES = Images(torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8), torch.zeros(40).long(), ("a",), "few")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with images in `photos`."""
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    draw("photos")


def draw(folder, first=0):
    Path(folder).mkdir()
    for i in range(30):
        with Path(folder, f"{i}.png").open("wb") as file:
            Image.fromarray(np.full((8, 8), first + 8 * i, np.uint8)).save(file, "PNG")


def go(*words):
    main(["train", *map(str, words), *WORDS])


def about(run):
    """What a run says of its data: how the user has spelled it, and where it is."""
    config = model_io.read_config(run)
    return config["recipe"]["data"], config["data"]["place"]


def test_a_folder_is_the_same_however_it_is_spelled(photos, tmp_path, monkeypatch):
    place = str(tmp_path / "here" / "photos")
    go("photos", "--steps", 1)
    for step, same in enumerate(("photos/", "./photos", place), start=2):
        go(same, "--resume", "--steps", step)
        assert about("runs/photos") == ("photos", place)
        assert checkpoints.newest("runs/photos") == step
    (tmp_path / "here" / "sub").mkdir()
    monkeypatch.chdir("sub")
    draw("photos", first=1)  # not the ones that the run was trained on
    go("../runs/photos", "--resume", "--steps", 5)
    assert checkpoints.newest("../runs/photos") == 5


def test_images_that_have_moved_are_known_by_their_digest(photos, tmp_path, capsys):
    go("photos", "--steps", 1)
    Path("photos").rename("pictures")
    said = refused(capsys, "train", "runs/photos", "--resume")
    assert f"runs/photos was trained on the images in {tmp_path / 'here' / 'photos'}, which is missing;" in said
    assert "ddim train PATH --out runs/photos --resume" in said
    assert "--against PATH" in refused(capsys, "evaluate", "runs/photos")
    draw("others", first=1)
    said = refused(capsys, "train", "others", "--out", "runs/photos", "--resume", *WORDS)
    assert "trained on 28 + 2 images of the shape [1, 8, 8] with other pixels or labels" in said
    Path("others/0.png").unlink()
    said = refused(capsys, "train", "others", "--out", "runs/photos", "--resume", *WORDS)
    assert "trained on 28 + 2 images of the shape [1, 8, 8], not on " in said
    assert "was trained on photos, not on digits" in refused(
        capsys, "train", "digits", "--out", "runs/photos", "--resume", *WORDS
    )
    go("pictures", "--out", "runs/photos", "--resume", "--steps", 2)
    assert about("runs/photos") == ("pictures", str(tmp_path / "here" / "pictures"))


def test_a_run_that_does_not_say_the_place_of_its_images_is_resumed(photos):
    go("photos", "--steps", 1)
    path = Path("runs/photos/config.json")
    config = json.loads(path.read_text())
    del config["data"]["place"]
    path.write_text(json.dumps(config))
    for step, data in ((2, "photos"), (3, "photos/")):
        go(data, "--out", "runs/photos", "--resume", "--steps", step)
    assert source({"recipe": {"data": "mnist"}}, "run", "") == "mnist"


def test_a_working_folder_that_has_moved_is_no_obstacle(photos, tmp_path, monkeypatch):
    go("photos", "--steps", 1)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    go("runs/photos", "--resume", "--steps", 2)
    assert about("runs/photos")[1] == str(tmp_path / "there" / "photos")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8(photos, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    draw(name)
    go(name, "--steps", 1)
    assert about(f"runs/{name}") == (name, str(tmp_path / "here" / name))
    assert Path(f"runs/{name}/metrics.jsonl").read_text().count("\n") == 1


def test_the_home_folder_is_understood(photos, tmp_path, monkeypatch, capsys):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "here"))
    go("~/photos", "--steps", 1, "--out=~/mine")
    assert sorted(os.listdir()) == ["mine", "photos"]
    go("~/mine", "--resume", "--steps", 2)
    assert checkpoints.newest("mine") == 2
    assert "The path is empty" in refused(capsys, "train", "")
    with pytest.raises(UserError, match="The path is empty"):
        train(RECIPE, "")


# A start that fails


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: IMAGES)


def test_a_first_update_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch, few):
    """As for a batch that does not fit into memory: there is no new run, and an old one is not replaced yet."""
    train(RECIPE, tmp_path / "old")
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    assert checkpoints.steps(tmp_path / "old") == [0, 1]
    fail = UserError("64 images at a time do not fit into memory.")
    with monkeypatch.context() as patch:
        patch.setattr(Update, "__call__", lambda *_: (_ for _ in ()).throw(fail))
        with pytest.raises(UserError, match="do not fit"):
            train(RECIPE, tmp_path / "old", overwrite=True)
        with pytest.raises(UserError, match="do not fit"):
            train(RECIPE, tmp_path / "new")
    assert {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == ["old"]
    train(RECIPE, tmp_path / "new")


def test_a_network_that_cannot_be_compiled_is_one_sentence(tmp_path, monkeypatch, few):
    """The run folder stays as it was. Other kinds of RuntimeError are not caught."""
    missing = type("InvalidCxxCompiler", (RuntimeError,), {"__module__": "torch._inductor.exc"})("No compiler found\n")

    def fail(*_):
        raise missing

    monkeypatch.setattr(Update, "__call__", fail)
    with pytest.raises(
        UserError, match=r"cannot be compiled: No compiler found; install a C\+\+ .*leave out --compile"
    ):
        train(RECIPE, tmp_path / "run")
    assert os.listdir(tmp_path) == []
    with pytest.raises(RuntimeError, match="another"), report_failed_compiler():
        raise RuntimeError("another")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_a_model(tmp_path, monkeypatch, few, value):
    """The last update spoils them, after its loss was checked: the earlier checkpoint and model stay."""

    def spoiling(model, *args, **kwargs):
        for now in fit(model, *args, **kwargs):
            if now.step == 2:
                with torch.no_grad():
                    for network in (model.network, now.average.network):
                        next(network.parameters()).fill_(value)
            yield now

    monkeypatch.setattr("ddim.train.run.fit", spoiling)
    recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=2, batch_size=4))
    with pytest.raises(
        UserError, match=r"broke down at step 2: the loss of the averaged weights is nan.*below 0\.0005"
    ):
        train(recipe, tmp_path / "run", save_every=1e-9)
    assert checkpoints.steps(tmp_path / "run") == [0, 1]
    assert all(parameter.isfinite().all() for parameter in load(tmp_path / "run").parameters())
    monkeypatch.undo()
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: IMAGES)
    train(recipe, tmp_path / "run", resume=True)
    assert model_io.read_config(tmp_path / "run")["finished"]
    broken = load(tmp_path / "run")
    with torch.no_grad():
        next(broken.network.parameters()).view(-1)[0] = value
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with pytest.raises(UserError, match="are not all finite, so no model is written"):
        model_io.save(broken, tmp_path / "copy")
    assert model_io.fingerprint(tmp_path / "copy") == model_io.fingerprint(tmp_path / "run")


@pytest.mark.parametrize("recipe", [None, {}, {"data": 3}])
def test_a_run_whose_config_names_no_data_is_refused(photos, capsys, recipe):
    main(["train", "photos", *WORDS, "--steps", "1"])
    path = Path("runs/photos/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": recipe}))
    capsys.readouterr()
    assert "runs/photos does not say which images it was trained on" in refused(
        capsys, "train", "runs/photos", "--resume"
    )
