import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddim.errors import UserError
from ddim.files import append_line, locked, sweep, user_path, write_bytes, write_text, writing

resource = pytest.importorskip("resource", reason="POSIX limits the size of files")


@pytest.fixture
def small_disk():
    """No file may grow past 4 KB: the operating system itself refuses, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, small_disk):
    path = tmp_path / "weights.bin"
    write_bytes(path, b"old")
    with pytest.raises(UserError, match=r"Could not write .*weights\.bin"):
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
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # a user without a line in /etc/passwd
    with pytest.raises(UserError, match="no home folder"):
        user_path("~/a")


# Drafts: the temporary files of processes that were killed


def leave_drafts(folder, *names, hours=0.0):
    """Let a process be killed within `writing` for each name; say that it was so many hours ago."""
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
