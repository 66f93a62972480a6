import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes

import ddim
from ddim import model_io, pictures
from ddim.errors import UserError
from ddim.files import (
    append_line,
    locked,
    read_table,
    read_tensors,
    sweep,
    tensors_header,
    user_path,
    write_bytes,
    write_text,
    writing,
)

resource = pytest.importorskip("resource", reason="POSIX limits the size of files")


@contextmanager
def small_disk():
    """No file may grow past 4 KB: the operating system itself refuses, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:  # before the test ends, as what writes its progress may be a file
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "weights.bin"
    write_bytes(path, b"old")
    with small_disk(), pytest.raises(UserError, match=r"Could not write .*weights\.bin"):
        write_bytes(path, bytes(10_000))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_no_space_left_is_said_in_words(tmp_path):
    with pytest.raises(UserError, match="No space left on device; free some space"), writing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_of_the_caller_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "page.html") as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="Could not write"):
        write_text(tmp_path / "run" / "config.json", "{}")


def test_folders_are_made_and_lines_are_added(tmp_path):
    write_text(tmp_path / "a" / "b" / "é.txt", "un\n")
    append_line(tmp_path / "a" / "b" / "é.txt", "deux")
    assert (tmp_path / "a" / "b" / "é.txt").read_text(encoding="utf-8") == "un\ndeux\n"
    with pytest.raises(UserError, match="Could not write"):
        append_line(tmp_path, "a line into a folder")


def test_a_path_with_a_tilde_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs/a") == tmp_path / "runs" / "a"
    assert user_path(tmp_path / "~") == tmp_path / "~"  # only at the start


def test_a_path_without_meaning_is_refused(monkeypatch):
    with pytest.raises(UserError, match="The path is empty"):
        user_path("")
    for other in (None, 3, b"a"):
        with pytest.raises(UserError, match=r"A path must be a string or a pathlib\.Path; got"):
            user_path(other)  # type: ignore[arg-type]
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # a user without a line in /etc/passwd
    with pytest.raises(UserError, match="no home folder"):
        user_path("~/a")


# Drafts: the temporary files of processes that were killed


def leave_drafts(folder, *names, hours=0.0):
    """Kill a process inside `writing` for each name; set the time of its temporary files back by some hours."""
    code = (
        "import os, signal, sys\nfrom contextlib import ExitStack\nfrom ddim.files import writing\n"
        "with ExitStack() as stack:\n    for path in sys.argv[1:]:\n"
        "        stack.enter_context(writing(path)).write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    before = set(folder.glob(".*"))
    run = subprocess.run([sys.executable, "-c", code, *(str(folder / name) for name in names)], check=False)
    assert run.returncode == -signal.SIGKILL
    drafts = sorted(set(folder.glob(".*")) - before)
    for draft in drafts:
        os.utime(draft, (time.time() - 3600 * hours,) * 2)
    return drafts


def test_what_killed_processes_left_a_day_ago_is_swept_by_the_next_file_in_the_folder(tmp_path):
    old = leave_drafts(tmp_path, "a.png", "b c.json", "no suffix", hours=25)
    new = leave_drafts(tmp_path, "a.png", hours=23)
    others = [tmp_path / name for name in (".a.12345678.png", ".a.ddim-1234567.png", "a.ddim-12345678.png", ".cache")]
    for path in others:
        path.touch()
        os.utime(path, (0, 0))
    assert (len(old), len(new)) == (3, 1)
    write_text(tmp_path / "other.txt", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([*new, *others, tmp_path / "other.txt"])


def test_who_holds_the_lock_sweeps_at_once_and_only_what_is_named(tmp_path):
    mine = leave_drafts(tmp_path, "model.safetensors", "config.json")
    older = tmp_path / ".model.0123abcd.safetensors"  # as drafts were named before
    older.touch()
    other = leave_drafts(tmp_path, "picture.png")
    sweep(tmp_path, "model", "config")
    assert len(mine) == 2
    assert sorted(tmp_path.iterdir()) == other
    sweep(tmp_path / "absent", "*")


def test_a_lock_lets_one_in_at_a_time_and_says_when_there_is_none(tmp_path):
    inside = []

    def enter(_):
        with locked(tmp_path / "cache" / "a.lock") as held:
            inside.append(held)
            time.sleep(0.02)
            assert inside == [True]
            inside.clear()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    (tmp_path / "file").touch()
    with locked(tmp_path / "file" / "a.lock") as held:
        assert not held


TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0, 4, dtype=torch.uint8)}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow names of UTF-8 only")
def test_tensors_are_read_from_a_folder_of_any_name(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "a.safetensors"
    try:
        write_bytes(path, to_bytes(TENSORS, metadata={"by": "é"}))
    except UserError:
        pytest.skip("this file system refuses the name")
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in read_tensors(path).items())
    assert tensors_header(path) == ({"a": (2, 3), "empty": (0, 4)}, {"by": "é"})


def test_only_one_place_opens_files_of_tensors():
    """What safetensors opens by its path must have a name of UTF-8."""
    for path in Path(ddim.__file__).parent.rglob("*.py"):
        assert not re.search(r"\bsafe_open\b|import load_file", path.read_text(encoding="utf-8")), path


def huge(content: bytes) -> bytes:
    return (2**63).to_bytes(8, "little") + content[8:]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"0",
        huge,
        lambda content: content.replace(b"F32", b"F99"),
        lambda content: content.replace(b"shape", b"Shape"),
        lambda content: content.replace(b'"shape":[2,3]', b'"shape":[2,9]'),
        lambda content: content.replace(b'"a"', b'"\xff"'),
    ],
)
def test_a_damaged_file_of_tensors_raises_one_error(tmp_path, change):
    content = to_bytes(TENSORS)
    write_bytes(tmp_path / "a", change(content))
    assert change(content) != content
    with pytest.raises(SafetensorError):
        read_tensors(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "\x00", '{"a":' * 33 + "1" + "}" * 33, "[" * 100_000])
def test_what_is_no_table_raises_one_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_table(tmp_path / "a.json")


def test_a_table_is_read_as_it_is(tmp_path):
    table = {"a": [1, None, {"b": 10**30, "c": "caf\udce9"}], "nested": json.loads("[" * 31 + "]" * 31)}
    (tmp_path / "a.json").write_text(json.dumps(table))
    assert read_table(tmp_path / "a.json") == table
    (tmp_path / "a.json").write_text(json.dumps({**table, "long": "x" * 2**24}))
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        read_table(tmp_path / "a.json")


def test_letters_that_utf8_lacks_become_question_marks(tmp_path):
    write_text(tmp_path / "a.html", "é caf\udce9")
    assert (tmp_path / "a.html").read_bytes() == "é caf?".encode()


def test_models_and_pictures_are_written_into_the_home_folder(tmp_path, monkeypatch, model):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    images = torch.zeros(1, 1, 8, 8)
    model_io.save(model, "~/model")
    pictures.write_grid(images, "~/sheet.png")
    pictures.write_each(images, "~/each")
    pictures.show(images).save("~/shown.png")
    assert os.listdir() == ["home"]
    assert sorted(os.listdir("home")) == ["each", "model", "sheet.png", "shown.png"]
    assert model_io.load("~/model").shape == model.shape
