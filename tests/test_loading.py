"""What `ddim.load` and the commands take for a model: a name that comes with ddim, or a path of the user's."""

from pathlib import Path

import pytest

import ddim
from ddim.errors import UserError
from ddim.loading import SHIPPED, find


@pytest.mark.parametrize("name", ["mnist", "airplanes"])
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
    with pytest.raises(UserError, match=rf"no run at (nowhere|mnist{guess});.*comes with ddim: airplanes, mnist"):
        ddim.load(name)
