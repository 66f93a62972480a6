"""What `ddim.load` and the commands take for a model: a name that comes with ddim, or a path of the user's."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

import ddim
from ddim.errors import UserError
from ddim.loading import SHIPPED, find
from ddim.train import Plan, checkpoints
from ddim.train.state import State


@pytest.mark.parametrize("name", ["mnist", "airplanes", "mnist-turbo"])
def test_a_model_that_comes_with_ddim(name):
    assert find(name) == SHIPPED / name
    model = ddim.load(name)
    assert not model.training
    assert (SHIPPED / name / "model.safetensors").stat().st_size < 12e6


def test_a_path_is_the_users_own_folder_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    for path in ("./mnist", "mnist/", Path("mnist"), str(tmp_path / "mnist")):
        assert find(path).resolve() == tmp_path / "mnist"
    assert find("mnist") == SHIPPED / "mnist"


@pytest.mark.parametrize("name", ["nowhere", "./mnist", Path("mnist")])
def test_what_is_nowhere_is_said_with_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guess = r"( \(did you mean 'mnist'\?\))?"
    known = "airplanes, mnist, mnist-turbo"
    with pytest.raises(UserError, match=rf"no run at (nowhere|mnist{guess});.*comes with ddim: {known}"):
        ddim.load(name)


def test_the_home_folder(run_folder, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(run_folder.parent))
    assert find("~/run") == find(Path("~/run")) == run_folder
    assert ddim.load("~/run").shape == (1, 8, 8)
    with pytest.raises(UserError, match=f"no run at {run_folder.parent}/nowhere"):
        find("~/nowhere")


def test_a_run_has_its_own_image_size(run_folder):
    with pytest.raises(UserError, match="is a run, whose images have one size; leave out image_size"):
        ddim.load(run_folder, image_size=8)


def test_an_empty_path_is_no_folder():
    with pytest.raises(UserError, match="The path is empty"):
        ddim.load("")


def test_a_step_that_is_no_number_is_refused(run_folder):
    with pytest.raises(UserError, match="The step of a checkpoint must be a whole number; got 'last'"):
        ddim.load(run_folder, checkpoint="last")  # type: ignore[arg-type]


def test_a_checkpoint_of_another_network_is_refused_by_its_name(run_folder):
    other = ddim.nets.build("plain", 1, "tiny", widths=(8, 16))
    checkpoints.save(State(other, Plan()), run_folder)
    with pytest.raises(UserError, match=r"00000000\.safetensors holds the weights of another network"):
        ddim.load(run_folder, raw=True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow names of UTF-8 only")
def test_a_checkpoint_in_a_folder_whose_name_is_not_utf8(run_folder, model):
    checkpoints.save(State(model.network, Plan()), run_folder)
    folder = Path(os.fsdecode(os.fsencode(run_folder.parent) + b"/caf\xe9"))
    try:
        shutil.copytree(run_folder, folder)
    except OSError:
        pytest.skip("this file system refuses the name")
    loaded = ddim.load(folder, raw=True).network.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in model.network.state_dict().items())
