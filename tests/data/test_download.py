"""Downloads: resumed, verified, whole or absent."""

import errno
import hashlib
import random
from pathlib import Path

import pytest

from ddim.data.download import cache_folder, fetch
from ddim.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def to(tmp_path):
    return tmp_path / "cache" / "file.gz"


def part_of(to) -> Path:
    return to.with_name("file.gz.part")


def test_a_file_is_downloaded_once(to, serve):
    server = serve(CONTENT)
    for _ in range(2):
        assert fetch([server.url()], to, SHA256).read_bytes() == CONTENT
    assert server.asked == [None]
    assert [file.name for file in to.parent.iterdir()] == ["file.gz"]


def test_a_broken_download_goes_on_where_it_stopped(to, serve):
    server = serve(CONTENT, stop_after=100_000)
    with pytest.raises(UserError, match="broke after 100000 of 300000 bytes"):
        fetch([server.url()], to, SHA256)
    assert not to.exists()
    assert part_of(to).read_bytes() == CONTENT[:100_000]
    server.stop_after = None
    assert fetch([server.url()], to, SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]
    assert not part_of(to).exists()


def test_the_next_mirror_goes_on_where_the_first_broke_off(to, serve):
    first, second = serve(CONTENT, stop_after=100_000), serve(CONTENT)
    assert fetch([first.url(), second.url()], to, SHA256).read_bytes() == CONTENT
    assert second.asked == ["bytes=100000-"]


@pytest.mark.parametrize(
    ("part", "ranges", "asked"),
    [
        (CONTENT[:1000], False, ["bytes=1000-"]),  # the server ignores the Range: all is sent again
        (CONTENT + b"more", True, ["bytes=300004-", None]),  # longer than the file: 416, then all
        (CONTENT, True, []),  # complete, only the name was missing
    ],
)
def test_any_part_that_lies_there_ends_as_the_right_file(to, serve, part, ranges, asked):
    to.parent.mkdir()
    part_of(to).write_bytes(part)
    server = serve(CONTENT, ranges=ranges)
    assert fetch([server.url()], to, SHA256).read_bytes() == CONTENT
    assert server.asked == asked


def test_a_server_that_sends_another_range_does_not_spoil_the_part(to, serve):
    to.parent.mkdir()
    part_of(to).write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match="another part of the file"):
        fetch([serve(CONTENT, shift=1).url()], to, SHA256)
    assert part_of(to).read_bytes() == CONTENT[:1000]


def test_wrong_bytes_leave_nothing(to, serve):
    with pytest.raises(UserError, match="sha256"):
        fetch([serve(b"<html>Please log in</html>").url()], to, SHA256)
    assert list(to.parent.iterdir()) == []


def test_mirrors_are_tried_in_turn(to, serve):
    gone, wrong, good = serve(status=404), serve(b"wrong"), serve(CONTENT)
    assert fetch([gone.url(), wrong.url(), good.url()], to, SHA256).read_bytes() == CONTENT
    assert (len(gone.asked), len(wrong.asked)) == (1, 1)


def test_if_all_mirrors_fail_each_is_named_with_its_reason(to, serve):
    gone, wrong = serve(status=404).url("gone"), serve(b"wrong").url("wrong")
    nobody = "http://127.0.0.1:9/nobody"
    with pytest.raises(UserError, match=r"gone: HTTP 404.*wrong: .*sha256.*nobody: .*refused.*data_dir"):
        fetch([gone, wrong, nobody], to, SHA256)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/x", "/etc/hostname"])
def test_only_http_is_downloaded_from(to, url):
    with pytest.raises(UserError, match="http://"):
        fetch([url], to, SHA256)


def test_a_full_disk_leaves_no_file_under_the_final_name(to, serve, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        fetch([serve(CONTENT).url()], to, SHA256)
    assert not to.exists()


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    monkeypatch.setenv("HOME", "/three")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("DDIM_CACHE")
    assert cache_folder() == Path("/two/ddim")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/three/.cache/ddim")
