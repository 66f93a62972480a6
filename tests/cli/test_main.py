"""The way in and the way out of every command: names, encodings, colours and signals."""

import os
import re
import subprocess
import sys

import pytest
from PIL import Image
from refusal import refused

import ddim
from ddim.cli import COMMANDS, DESCRIPTION, main


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ddim", *map(str, arguments)],
        capture_output=True,
        check=False,
        env=os.environ | environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (["trian", "mnist"], "no command 'trian' (did you mean 'train'?); choose one of train, inspect, sample"),
        (["train", "mnsit"], "no data set called 'mnsit' (did you mean 'mnist'?), nor a folder"),
        (["sample", "mnits"], "no run at mnits (did you mean 'mnist'?); train one first"),
        (["reproduce", "digit"], "or folder called 'digit' (did you mean 'digits'?); choose one of airplanes"),
        (["train", "digits", "--network", "Unett"], "no network called 'Unett' (did you mean 'unet'?); choose one of"),
        (["train", "digits", "--schedule", "zigzag"], "no schedule called 'zigzag'; choose one of linear"),
    ],
)
def test_a_misspelled_name_is_met_with_the_nearest_one(capsys, tmp_path, monkeypatch, arguments, guess):
    monkeypatch.chdir(tmp_path)
    assert guess in refused(capsys, *arguments)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("flag", ["--data-dir", "--url"])
def test_files_of_a_set_without_files_are_refused(capsys, tmp_path, flag):
    assert "leave out data_dir and url" in refused(capsys, "train", "digits", flag, "x", "--out", tmp_path / "run")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("encoding", ["cp1251", "cp437", "ascii"])
def test_an_output_without_our_letters_gets_question_marks(tmp_path, encoding):
    """As on Windows where the output goes to a file."""
    for i in range(4):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / f"{i}.png")
    done = run("inspect", tmp_path, "--out", tmp_path / "overview.png", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"8 ? 8" in done.stdout
    assert (tmp_path / "overview.png").is_file()


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 9 GiB"), RuntimeError("[enforce] can't allocate memory: 9 GiB\ntrace")]
)
def test_a_full_memory_is_one_sentence(capsys, monkeypatch, error):
    def fail(folder):
        raise error

    monkeypatch.setattr("ddim.loading.find", fail)
    assert refused(capsys, "sample", "mnist").endswith(
        "9 GiB); ask for smaller batches, smaller images or a smaller network.\n"
    )


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    def fail(folder):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("ddim.loading.find", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        main(["sample", "mnist"])


def test_help_has_no_colours_where_none_are_wanted():
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    shown = {}
    for no_color in ("", "1"):
        ours, theirs = pty.openpty()
        environment = os.environ | {"NO_COLOR": no_color, "TERM": "xterm"}
        command = [sys.executable, "-m", "ddim", "list", "--help"]
        assert subprocess.run(command, stdout=theirs, env=environment, timeout=120, check=False).returncode == 0
        os.close(theirs)
        shown[no_color] = os.read(ours, 10_000)
        os.close(ours)
    assert b"\x1b[" in shown[""]
    assert b"\x1b[" not in shown["1"]


def test_a_signal_during_an_import_ends_the_command_as_ctrl_c_does(tmp_path):
    """The plugin turns KeyboardInterrupt into ImportError, as extensions in C do."""
    plugin = tmp_path / "slow.py"
    plugin.write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.5)\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('initialisation failed') from None\n"
    )
    done = run("sample", "mnist", "--steps", "1000", "--out", tmp_path / "never.png", "--plugin", plugin)
    assert done.returncode == 130
    assert not (tmp_path / "never.png").exists()
    assert done.stderr.startswith(b"ddim: Interrupted.")
    assert done.stderr.count(b"\n") == 1


def test_the_public_names_are_listed():
    assert {"fit", "train", "Plan", "Recipe", "Progress"} <= set(dir(ddim.train))
    assert {"score", "measure", "copies", "Extractor"} <= set(dir(ddim.evaluate))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_says_what_each_command_is_for(command):
    assert re.search(rf"\b{command}\b", DESCRIPTION)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands(shell, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--tyro-write-completion", shell, str(tmp_path / "completion")])
    script = (tmp_path / "completion").read_text(encoding="utf-8")
    assert all(command in script for command in COMMANDS)
    assert "--guidance-interval" in script


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_costs_no_result(tmp_path, closed):
    words = "sample mnist --count 2 --steps 1 --device cpu --backend torch --out two.png"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m ddim {words} {closed}', sys.executable],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert (tmp_path / "two.png").is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_the_output_is_one_sentence():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "ddim", "list", "samplers"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"Could not write the output: the disk is full" in done.stderr


def test_a_terminal_of_few_columns_shows_the_help():
    done = run("list", "--help", COLUMNS="3")
    assert done.returncode == 0
    assert b"--quiet" in done.stdout
