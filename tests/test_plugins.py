"""Plugins: what the user names is imported before the command runs, and nothing else is."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from ddim import plugins
from ddim.cli import main
from ddim.errors import UserError
from ddim.samplers import samplers

MINE = '''
from ddim.samplers import DDIM, samplers

@samplers.register("mine")
class Mine(DDIM):
    """Step as DDIM does. It is only a test."""
'''


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DDIM_PLUGINS", raising=False)
    before = set(sys.modules)
    yield
    samplers.pop("mine", None)
    for name in set(sys.modules) - before:
        if name.startswith("ddim_plugin_"):
            del sys.modules[name]


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def listed(capsys, *arguments):
    """The line of `ddim list samplers` about the sampler "mine"."""
    main(["list", "samplers", *arguments])
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("  mine ")]


@pytest.mark.parametrize(
    "words", ["--plugin mine.py {}", "{} --plugin=mine.py", "{} --plugin mine.py --plugin mine.py"]
)
def test_a_sampler_in_a_file_of_the_user(mine, run_folder, words, capsys):
    command = ["sample", str(run_folder), "--count", "2", "--steps", "3", "--spacing", "linear"]
    main([*command, "--sampler", "ddim", "--out", "same.png"])
    command += ["--sampler", "mine", "--out", "grid.png"]
    main([word for part in words.split(" ") for word in (command if part == "{}" else [part])])
    with Image.open(mine.parent / "grid.png") as grid, Image.open(mine.parent / "same.png") as same:
        assert (grid.size, grid.tobytes()) == (same.size, same.tobytes())


def test_the_file_is_imported_before_the_process_parses_its_command(mine, run_folder):
    words = ["sample", run_folder, "--count", "1", "--steps", "2", "--sampler", "mine", "--plugin", mine]
    done = subprocess.run([sys.executable, "-m", "ddim", *map(str, words)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_and_modules_of_the_environment(mine, monkeypatch, capsys):
    assert listed(capsys) == []
    monkeypatch.setenv("DDIM_PLUGINS", f" {mine}, ,json")
    assert [line.split(maxsplit=1)[1] for line in listed(capsys)] == ["Step as DDIM does."]


def test_a_module(mine, monkeypatch, capsys):
    mine.rename(mine.with_name("my_samplers.py"))
    monkeypatch.syspath_prepend(mine.parent)
    try:
        assert listed(capsys, "--plugin", "my_samplers")
    finally:
        sys.modules.pop("my_samplers", None)


def test_an_installed_package(mine, monkeypatch, capsys):
    mine.rename(mine.with_name("my_installed_samplers.py"))
    about = mine.parent / "my_samplers-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-samplers\nVersion: 1.0\n")
    entry = about / "entry_points.txt"
    entry.write_text("[ddim.plugins]\nsamplers = my_installed_samplers\n")
    monkeypatch.syspath_prepend(mine.parent)
    try:
        assert listed(capsys)
    finally:
        sys.modules.pop("my_installed_samplers", None)
    entry.write_text("[ddim.plugins]\nsamplers = nowhere_to_be_found\n")
    with pytest.raises(UserError, match=r"'samplers' of the installed package 'my-samplers' could not be imported: "):
        plugins.load()


@pytest.mark.parametrize(
    ("code", "named", "said"),
    [
        (None, "absent.py", "There is no plugin file .*absent.py; check the path"),
        (None, "folder/absent", "There is no plugin file .*absent; check the path"),
        (
            None,
            "nowhere_to_be_found",
            "There is no plugin module 'nowhere_to_be_found'; install it, or give the path",
        ),
        (None, "json.nowhere", "There is no plugin module 'json.nowhere'"),
        (
            "x = 1\ny = z\n",
            "broken.py",
            r"broken.py, line 2 could not be imported: NameError: name 'z' is not defined",
        ),
        ("x = (\n", "broken.py", r"broken.py could not be imported: SyntaxError: .*line 1"),
        (
            "\nimport nowhere_to_be_found\n",
            "broken.py",
            "broken.py, line 2 could not be imported: ModuleNotFoundError",
        ),
        ("import sys\nsys.exit()\n", "broken.py", "line 2 could not be imported: SystemExit: no message"),
        ("import nowhere_to_be_found\n", "broken", "'broken' could not be imported: .*nowhere_to_be_found"),
        ("", "broken.txt", "There is no plugin module 'broken.txt'"),
        ("", "./broken.txt", "broken.txt is not Python code"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(code, named, said, tmp_path, monkeypatch, capsys):
    if code is not None:
        (tmp_path / (named if "." in named else f"{named}.py")).write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        plugins.load([named])
    with pytest.raises(SystemExit) as stop:
        main(["list", "samplers", "--plugin", named])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"ddim: {error.value}\n"


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin="], ["--plugin", "--steps"]])
def test_the_flag_needs_a_value(words):
    with pytest.raises(UserError, match="--plugin needs the path"):
        plugins.split(["sample", "mnist", *words])


def test_help_imports_no_plugin(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sample", "--help", "--plugin", "absent.py"])
    assert stop.value.code == 0


def test_nothing_is_imported_because_a_run_names_it(run_folder, capsys):
    """Neither what its config names nor what lies in its folder or in the current one."""
    (run_folder / "evil.py").write_text("raise AssertionError")
    (run_folder.parent / "evil.py").write_text("raise AssertionError")
    path = run_folder / "config.json"
    config = json.loads(path.read_text())
    for plugin in (str(run_folder / "evil.py"), "evil"):
        path.write_text(json.dumps({**config, "plugin": plugin, "plugins": [plugin], "DDIM_PLUGINS": plugin}))
        main(["sample", str(run_folder), "--count", "1", "--steps", "1"])
    for part in ("network", "sampling"):
        named = {**config[part], ("name" if part == "network" else "sampler"): "evil"}
        path.write_text(json.dumps({**config, part: named}))
        with pytest.raises(SystemExit) as stop:
            main(["sample", str(run_folder), "--count", "1"])
        assert stop.value.code == 2
    assert not [name for name in sys.modules if "evil" in name]
