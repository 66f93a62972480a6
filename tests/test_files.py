import errno
import os
import signal

import pytest

from ddim.errors import UserError
from ddim.files import append_line, user_path, write_bytes, write_text, writing

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
