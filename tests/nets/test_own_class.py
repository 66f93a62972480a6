"""A class of the user is a network of the command line, and no model imports it by itself."""

import json
import sys
from pathlib import Path

import pytest

from ddim import nets, plugins
from ddim.cli import main
from ddim.errors import UserError
from ddim.plugins import split

MINE = '''
from torch import nn

class Own(nn.Module):
    """One convolution; it knows nothing of ddim."""

    def __init__(self, channels, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 1))

    def forward(self, x, t):
        return self.layers(x)

number = 1
'''
NAME = "own_network:Own"
TRAIN = ("train", "digits", "--steps", "2", "--batch-size", "4", "--device", "cpu", "--out", "run")


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """The user's file, in a process that has not imported it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DDIM_PLUGINS", raising=False)
    (tmp_path / "own_network.py").write_text(MINE)
    forget()
    yield tmp_path / "own_network.py"
    forget()


def forget():
    plugins.modules.clear()
    nets.networks.pop(NAME, None)
    for name in [name for name in sys.modules if "own_network" in name]:
        del sys.modules[name]


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("words", [["--network", "own_network.py:Own"], ["--network=./own_network.py:Own"]])
def test_the_file_is_named_by_its_module(words):
    assert split(["train", *words, "--steps", "1"]) == (
        ["train", "--network", NAME, "--steps", "1"],
        [words[-1].removeprefix("--network=").removesuffix(":Own")],
    )
    for other in (["train", "--network", "unet"], ["train", "--network=unet"], ["train", "--network"]):
        assert split(other) == (other, [])


def test_a_run_with_it_is_served_when_the_file_is_named_again(capsys, monkeypatch):
    main([*TRAIN, "--network", "own_network.py:Own"])
    config = json.loads(Path("run/config.json").read_text(encoding="utf-8"))
    assert config["network"] == {"name": NAME, "channels": 1, "width": 4}
    sample = ("sample", "run", "--count", "1", "--steps", "1", "--device", "cpu", "--out", "one.png")
    forget()
    capsys.readouterr()
    said = refused(capsys, *sample)
    assert f"The network '{NAME}' is a class of your own" in said
    assert "name the file or module own_network by --plugin" in said
    assert not [name for name in sys.modules if "own_network" in name]
    main([*sample, "--plugin", "own_network.py"])
    forget()
    monkeypatch.setenv("DDIM_PLUGINS", "own_network.py")
    main(["verify", "run", "--solvers", "ddim", "--spacings", "trailing", "--calls", "2", "--count", "1"])
    main([*TRAIN, "--resume"])  # the recipe names the class; the user names the file


def test_an_imported_module_is_a_network_after_the_user_has_named_it(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    import own_network  # noqa: F401

    with pytest.raises(UserError, match="may not import it by itself"):
        nets.build(NAME, 1)
    plugins.load(["own_network"])
    assert type(nets.build(NAME, 3)).__name__ == "Own"
    for name in ("Other", "number", "nn"):
        with pytest.raises(UserError, match=rf"has no torch.nn.Module called '{name}'"):
            nets.build(f"own_network:{name}", 1)


def test_nothing_is_trained_by_a_recipe_that_names_a_class(capsys, tmp_path):
    (tmp_path / "recipe.toml").write_text('data = "digits"\nnetwork = "./own_network.py:Own"\n')
    assert "may not import it by itself" in refused(capsys, "train", "recipe.toml", "--out", "run")
    assert not [name for name in sys.modules if "own_network" in name]
